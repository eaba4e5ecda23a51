"""What passes the proxy: a request (`Ask`), an answer (`Reply`) and the frames of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Body = dict[str, Any]

JSON_TYPE, SSE_TYPE = "application/json", "text/event-stream; charset=utf-8"


@dataclass(frozen=True)
class Ask:
    """A request as it goes over the wire. Header names are lower case.

    `to_its_end`: the server behind the proxy does not hear of it when the client hangs up.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    to_its_end: bool = False

    @property
    def route(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def body(self) -> Body:
        """The JSON object that is asked with; empty for anything else."""
        try:
            value = json.loads(self.content)
        except (ValueError, RecursionError):  # the suite sends nested nonsense, too
            return {}
        return value if isinstance(value, dict) else {}

    def with_body(self, body: Body) -> Ask:
        """The same request with another body."""
        return replace(self, content=json.dumps(body).encode())


class Cut(Exception):
    """Raised among the parts of a reply: the connection breaks here."""


@dataclass
class Reply:
    """An answer. `parts` are the bytes of the body as they come; a Cut among them is obeyed."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    parts: Iterable[bytes] = ()

    @property
    def is_stream(self) -> bool:
        """Whether it is an answer of server-sent events."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def read(self) -> bytes:
        """The whole body; it can be read again."""
        content = b"".join(self.parts)
        self.parts = [content]
        return content

    @property
    def body(self) -> Any:
        """The body as JSON, or None."""
        try:
            return json.loads(self.read())
        except ValueError:
            return None


def answer(body: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(status, {"content-type": JSON_TYPE}, [content])


def error(status: int, message: str, kind: str = "InternalServerError", param: Any = None) -> Reply:
    """An error in the shape that vLLM gives it."""
    return answer(
        {"error": {"message": message, "type": kind, "param": param, "code": status}}, status
    )


@dataclass(frozen=True)
class Frame:
    """One event of a stream, as text: `event:` where the endpoint names its events, and `data:`."""

    data: str
    name: str = ""

    @property
    def chunk(self) -> Body | None:
        """The data as a JSON object; None for `[DONE]` and other words."""
        try:
            value = json.loads(self.data)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def with_chunk(self, chunk: Body) -> Frame:
        """The same event with other data; an event's name follows its type."""
        data = json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
        return Frame(data, str(chunk.get("type", "")) if self.name else "")

    def __bytes__(self) -> bytes:
        name = f"event: {self.name}\n" if self.name else ""
        return f"{name}data: {self.data}\n\n".encode()


def frames(parts: Iterable[bytes]) -> Iterator[Frame]:
    """The events of a healthy stream, each as soon as it is complete."""
    rest = b""
    for part in parts:
        *whole, rest = (rest + part).split(b"\n\n")
        for text in whole:
            lines = text.decode().split("\n")
            name = next((line[7:] for line in lines if line.startswith("event: ")), "")
            data = [line[6:] for line in lines if line.startswith("data: ")]
            if data:
                yield Frame("\n".join(data), name)
