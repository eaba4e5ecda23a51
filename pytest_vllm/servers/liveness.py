"""Is a server still there? Its process lives, and its port accepts connections."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Instance

#: Seconds to wait for the end of a process whose port is closed already.
_SETTLE_S = 5.0


def accepts(url: str) -> bool:
    """Whether somebody accepts connections at the address."""
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    with contextlib.suppress(OSError), socket.create_connection((address.hostname, port), 5):
        return True
    return False


def death_of(instance: Instance) -> str | None:
    """How a server that was ready ended; None if it lives.

    A killed process closes its port before it can be seen dead, so a closed port waits for
    the end. A port that stays closed is the end of a server too, whatever its process does.
    """
    deadline = time.monotonic() + _SETTLE_S
    while (state := instance.state()).running:
        url = instance.base_url
        if url and accepts(url):
            return None
        if time.monotonic() > deadline:
            return "it accepts no connections any more"
        time.sleep(0.02)
    return str(state)
