"""What the fake server is about to send: still data, so that a fault can change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Frames = list[bytes]


@dataclass
class Reply:
    """A whole answer (`body`), or a stream (`chunks`)."""

    body: Any = None
    chunks: list[dict[str, Any]] | None = None
    status: int = 200
    content_type: str = "application/json"
    edit_bytes: list[Callable[[bytes], bytes]] = field(default_factory=list)
    edit_frames: list[Callable[[Frames], Frames]] = field(default_factory=list)
    pause_s: float = 0.0  # before each part
    cut: bool = False  # close the connection in the middle
    silent: bool = False  # close the connection instead of answering
    dies: bool = False  # the same, and never accept another one

    def content(self) -> bytes:
        """The bytes of a whole answer."""
        body = self.body
        content = body if isinstance(body, bytes) else b"" if body is None else _dump(body)
        for edit in self.edit_bytes:
            content = edit(content)
        return content

    def frames(self) -> Frames:
        """The parts of a stream, as they go over the wire."""
        frames = [b"data: " + _dump(chunk) + b"\n\n" for chunk in self.chunks or []]
        frames.append(b"data: [DONE]\n\n")
        for edit in self.edit_frames:
            frames = edit(frames)
        return frames


def stream(chunks: list[dict[str, Any]]) -> Reply:
    """A healthy stream."""
    return Reply(chunks=chunks, content_type="text/event-stream; charset=utf-8")


def error(status: int, message: str, kind: str = "BadRequestError") -> Reply:
    """An error in vLLM's envelope."""
    content = {"message": message, "type": kind, "param": None, "code": status}
    return Reply({"error": content}, status=status)


def page(text: str) -> Reply:
    """An HTML page."""
    return Reply(text.encode(), content_type="text/html; charset=utf-8")


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
