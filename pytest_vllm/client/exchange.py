"""Request, Answer and Stream: one question to a server and what came back, as data.

A `Request` says everything that is sent, so a test can be declared without sending it. A check is
a function of an exchange that raises CheckFailed; it finds the request there too, so rules such
as "the model is the one that was asked for" need no arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.strict_json import parse_json

__all__ = ["Answer", "Exchange", "Request", "Stream"]

E = TypeVar("E", bound="Exchange")


@dataclass(frozen=True)
class Request:
    """What is sent: a path below the server's root, and a JSON body or none.

    Attributes:
        headers: More headers, or others than the client's own.
        content: The body as it goes over the wire, for what is no JSON object; `body` is then
            only what the readers know of it.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def but(self, **fields: Any) -> Request:
        """The same request with other fields in its body; `...` leaves a field out."""
        body = {**(self.body or {}), **fields}
        return replace(self, body={key: value for key, value in body.items() if value is not ...})

    def get(self, field: str, default: Any = None) -> Any:
        """A field of the body; null counts as not given."""
        value = (self.body or {}).get(field)
        return default if value is None else value


@dataclass(frozen=True)
class Exchange:
    """A request, the curl line that repeats it, and the head of the answer."""

    request: Request
    curl: str = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    sent_at: float = field(repr=False, kw_only=True, default=0.0)
    """Unix time at which the request went out, by our clock."""

    def check(self: E, *checks: Callable[[E], None]) -> E:
        """Apply checks in order, and return the exchange for what follows.

        Raises CheckFailed of the first that fails, with the curl line.
        """
        __tracebackhide__ = True
        for check in checks:
            try:
                check(self)
            except CheckFailed as failure:
                # The message says it all; where in the checks it arose helps nobody.
                raise failure.reproduced_by(self.curl).with_traceback(None) from None
        return self


@dataclass(frozen=True)
class Answer(Exchange):
    """An answer that came as a whole."""

    content: bytes

    @property
    def text(self) -> str:
        """The body, for messages: bytes that are not UTF-8 are marked, not refused."""
        return self.content.decode(errors="replace")

    @cached_property
    def json(self) -> Any:
        """The body as JSON. Raises CheckFailed."""
        __tracebackhide__ = True
        try:
            return parse_json(self.content.decode())
        except ValueError as error:
            failure = CheckFailed(f"The body must be JSON ({error})", seen=Text(self.text))
            raise failure.reproduced_by(self.curl) from None


@dataclass(frozen=True)
class Stream(Exchange):
    """A stream that was read to its end: its chunks, and the second at which each came.

    A chunk of an endpoint with named events is the data of an event; its name is its `type`.

    The properties below are for streams whose chunks have been checked for their shape.
    """

    chunks: tuple[dict[str, Any], ...]
    times: tuple[float, ...] = field(repr=False)
    whole: Answer | None = field(repr=False, default=None)
    """The chunks put together, as the same request is answered without `stream`.

    None where the path has no reader, or before the reader has been there.
    """

    @property
    def choices(self) -> list[dict[str, Any]]:
        """The choices of all chunks, one after another."""
        return [choice for chunk in self.chunks for choice in chunk["choices"]]
