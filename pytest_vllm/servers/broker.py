"""The pool, shared with pytest-xdist workers.

The controller owns the one pool and serves it on a loopback socket; workers lease from it.
So each server starts once for the run, wherever its tests land, and only the controller,
which ends last, stops anything. A worker that runs on another machine (`--tx ssh=…`) cannot
reach it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from threading import Thread
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from pytest_vllm.servers.pool import ServerPool
    from pytest_vllm.servers.server import Server
    from pytest_vllm.spec import ServerSpec


_EXPOSED = ["lease", "release", "check"]


class Leases(Protocol):
    """What a test process needs of a pool: the pool itself, or a worker's link to it."""

    def lease(self, spec: ServerSpec, holder: str = "", warnings: tuple[str, ...] = ()) -> Server:
        """See ServerPool.lease."""

    def release(self, spec: ServerSpec, holder: str = "") -> None:
        """See ServerPool.release."""

    def check(self, spec: ServerSpec, test: str) -> str | None:
        """See ServerPool.check."""


class _Manager(BaseManager):
    """Made anew for each broker: `register` stores into the class."""


class Broker:
    """The controller's side: serves a pool to workers."""

    def __init__(self, pool: Callable[[], ServerPool]) -> None:
        class Serving(_Manager):
            pass

        Serving.register("pool", callable=pool, exposed=_EXPOSED)
        self._key = secrets.token_bytes(32)
        self._server = Serving(address=("127.0.0.1", 0), authkey=self._key).get_server()
        # A daemon thread: it ends with the controller, and so do the workers' links.
        Thread(target=self._server.serve_forever, name="vllm-broker", daemon=True).start()

    @property
    def link(self) -> tuple[str, int, str]:
        """What a worker needs to connect: host, port and key, as builtin types."""
        host, port = cast("tuple[str, int]", self._server.address)
        return host, port, self._key.hex()


def connect(link: tuple[str, int, str]) -> Leases:
    """The worker's side: the controller's pool behind a proxy."""
    host, port, key = link

    class Connecting(_Manager):
        pass

    Connecting.register("pool", exposed=_EXPOSED)
    manager = Connecting(address=(host, port), authkey=bytes.fromhex(key))
    manager.connect()
    return cast("Leases", manager.pool())  # type: ignore[attr-defined]
