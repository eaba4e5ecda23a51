"""A real server that is asked only once: what it answered is given again, with fresh ids.

Many faults in front of one server ask it the same, mostly. The nth time that a sampled request
comes it has the nth answer, so that distributions stay what they are. Not for tests that look at
time or at metrics (`alone`).
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.proxy.messages import Ask, Reply
from tests.proxy.recording import Recorder, _fresh, key_of
from tests.proxy.server import Gone, Handler

__all__ = ["Memo"]


class Memo:
    """A handler: answers from memory, else from upstream. `again()` starts the counts anew."""

    def __init__(self, upstream: Handler, path: Path | None = None) -> None:
        self.upstream, self.path = upstream, path
        self.lock = threading.Lock()
        self.known: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        if path is not None and path.exists():
            self.known.update(pickle.loads(path.read_bytes()))
        self.again()

    def again(self) -> None:
        """Begin a run: each request comes for the first time."""
        self.turns: dict[str, Iterator[int]] = defaultdict(itertools.count)

    def save(self) -> None:
        """Keep what is known for the next process."""
        if self.path is not None:
            self.path.write_bytes(pickle.dumps(dict(self.known)))

    def __call__(self, ask: Ask, gone: Gone) -> Reply:
        """A handler for `serving` and `Proxy`."""
        key = key_of(ask)
        fixed = ask.body.get("temperature") == 0 or ask.body.get("seed") is not None
        with self.lock:
            turn = 0 if fixed else next(self.turns[key])
            kept = self.known[key].get(turn)
        if kept is not None:
            return _fresh(kept)
        recorder = Recorder(self.upstream)
        reply = recorder(ask, gone)
        reply.parts = self._kept(iter(reply.parts), recorder, key, turn)
        return reply

    def _kept(
        self, parts: Iterator[bytes], recorder: Recorder, key: str, turn: int
    ) -> Iterator[bytes]:
        yield from parts
        with self.lock, contextlib.suppress(IndexError):
            self.known[key][turn] = recorder.exchanges[key][0]
