"""A healthy server on record: what it answered to which request, and a server made of that.

What a recording cannot know is left to the real servers of tests/e2e: time (`alone` tests: metrics,
cancellation, delivery), and answers to requests that nobody sent while it was made.
"""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import re
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.proxy.messages import Ask, Reply, error, frames
from tests.proxy.server import Gone, Handler

__all__ = ["NOT_RECORDED", "Recorder", "Replay"]

NOT_RECORDED = "this request is not on record"
#: Different answers to the same request (it was sampled) that are kept.
KEPT = 6
_ID = re.compile(
    r"\b(?:cmpl|chatcmpl|chatcmpl-tool|resp|msg|call|fc|rs|modelperm|toolu)[-_][0-9a-f]{8,}\b"
)
_CREATED = re.compile(r'("created(?:_at)?":\s?)(\d{10})')


def key_of(ask: Ask) -> str:
    """What makes two requests the same: method, path, key, type and the JSON body in any order."""
    try:
        body = json.dumps(json.loads(ask.content), sort_keys=True)
    except (ValueError, RecursionError):
        body = ask.content.decode("latin-1")
    asked = {
        name: ask.headers.get(name, "") for name in ("authorization", "content-type", "x-api-key")
    }
    whole = json.dumps([ask.method, ask.path, asked, body])
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


class Recorder:
    """Passes everything on and keeps what came back."""

    def __init__(self, upstream: Handler) -> None:
        self.upstream = upstream
        self.lock = threading.Lock()
        self.exchanges: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def __call__(self, ask: Ask, gone: Gone) -> Reply:
        """A handler for `serving` and `Proxy`."""
        reply = self.upstream(ask, gone)
        parts = frames_of(reply) if reply.is_stream else iter([reply.read()])
        reply.parts = self._kept(parts, ask, reply)
        return reply

    def _kept(self, parts: Iterator[bytes], ask: Ask, reply: Reply) -> Iterator[bytes]:
        got = []
        for part in parts:
            got.append(part.decode())
            yield part
        kept = {"status": reply.status, "type": reply.headers.get("content-type"), "parts": got}
        if length := reply.headers.get("content-length"):
            kept["sized"] = bool(length)
        with self.lock:
            seen = self.exchanges[key_of(ask)]
            same = [_without_ids(other) for other in seen]
            if len(seen) < _variants(ask) and _without_ids(kept) not in same:
                seen.append(kept)

    def save(self, path: Path, **facts: Any) -> None:
        """Write a recording: facts about the server, and the exchanges."""
        content = json.dumps({**facts, "exchanges": self.exchanges}, sort_keys=True)
        path.write_bytes(gzip.compress(content.encode(), mtime=0))


def _variants(ask: Ask) -> int:
    """How many answers a request can rightly have: one, unless it is sampled without a seed."""
    fixed = ask.body.get("temperature") == 0 or ask.body.get("seed") is not None
    return 1 if fixed else KEPT


def frames_of(reply: Reply) -> Iterator[bytes]:
    """The events of a stream as bytes, each as soon as it is complete."""
    return (bytes(frame) for frame in frames(iter(reply.parts)))


def _without_ids(kept: dict[str, Any]) -> str:
    text = json.dumps(kept)
    return _CREATED.sub(r"\1", _ID.sub("", text))


class Replay:
    """Answers from a recording. Ids and times are made fresh; streams come event by event."""

    def __init__(self, path: Path) -> None:
        loaded = json.loads(gzip.decompress(path.read_bytes()))
        self.exchanges: dict[str, list[dict[str, Any]]] = loaded.pop("exchanges")
        self.facts: dict[str, Any] = loaded
        self.turns: dict[str, Iterator[int]] = defaultdict(itertools.count)
        self.lock = threading.Lock()

    def __call__(self, ask: Ask, gone: Gone) -> Reply:
        """A handler for `serving` and `Proxy`."""
        key = key_of(ask)
        kept = self.exchanges.get(key)
        if kept is None:
            return error(599, NOT_RECORDED)
        with self.lock:
            turn = next(self.turns[key])
        return _fresh(kept[turn % len(kept)])


def _fresh(kept: dict[str, Any]) -> Reply:
    ids: dict[str, str] = {}

    def new(match: re.Match[str]) -> str:
        old = match[0]
        if old not in ids:
            prefix = re.match(r".*[-_]", old)
            length = len(old) - len(prefix[0] if prefix else "")
            ids[old] = f"{prefix[0] if prefix else ''}{(uuid.uuid4().hex * 2)[:length]}"
        return ids[old]

    now = str(int(time.time()))
    parts = [_CREATED.sub(rf"\g<1>{now}", _ID.sub(new, part)).encode() for part in kept["parts"]]
    headers = {"server": "uvicorn"}
    if kept["type"]:
        headers["content-type"] = kept["type"]
    if kept.get("sized"):
        headers["content-length"] = str(sum(map(len, parts)))
    return Reply(kept["status"], headers, parts)
