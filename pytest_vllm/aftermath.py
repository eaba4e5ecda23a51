"""After a test that was alone: does the server still work on something?

A request that nobody waits for any more keeps its slot and its cache. Whoever had the server to
itself must leave it as it was; the test that does not is the one to blame.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.http import make_client
from pytest_vllm.client.metrics import RUNNING, Metrics, look_until

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Server

#: Seconds in which the gauges must be back at 0; they are within 0.1 s on an idle machine.
LIMIT_S = 5.0


@contextlib.contextmanager
def leaves_it_idle(server: Server) -> Iterator[float]:
    """Around a test that is alone; gives the second at which the test itself begins.

    Where others use the server too, nothing is judged.

    Raises CheckFailed.
    """
    if not server.capabilities.has("metrics"):
        yield time.monotonic()
        return
    with make_client(server.base_url) as client:
        before = look_until(client, is_idle, limit_s=LIMIT_S)
        yield time.monotonic()
        if not is_idle(before):
            return
        after = look_until(client, is_idle, limit_s=LIMIT_S)
    if not is_idle(after):
        raise CheckFailed(
            f"{LIMIT_S:g} s after a test that was alone the server must be idle",
            expected={RUNNING: 0},
            seen=after.in_flight,
        ).reproduced_by(after.answer.curl)


def is_idle(seen: Metrics) -> bool:
    """Whether the engine has nothing to do; also true where it does not say."""
    return seen.in_flight == 0
