"""`alone` across the processes of a run: many tests may use a server, or one has it to itself.

A fair shared/exclusive lock of two files per server. Everybody goes through the turnstile into
the room: who shares it holds the turnstile for a moment only; who wants to be alone keeps it,
so that nobody enters while those inside leave. The kernel frees what a dead worker held.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

__all__ = ["Room"]


class Room:
    """The lock of one server, `name` being its address."""

    def __init__(self, folder: Path, name: str) -> None:
        stem = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._turnstile, self._room = folder / f"{stem}.turnstile", folder / f"{stem}.room"

    def enter(self, *, alone: bool) -> ExitStack:
        """Wait until one may use the server; the stack's `close` leaves."""
        with ExitStack() as stack:
            turnstile = stack.enter_context(ExitStack())
            turnstile.enter_context(_locked(self._turnstile, fcntl.LOCK_EX))
            stack.enter_context(_locked(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
            if not alone:
                turnstile.close()
            return stack.pop_all()


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, how)
        yield
    finally:
        os.close(file)
