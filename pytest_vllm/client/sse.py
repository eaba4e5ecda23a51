"""Server-sent events, read strictly: bytes in, events out. Pure.

The rules are those of the HTML standard (server-sent events, "parsing an event stream"), but
where it tells a browser to ignore what it does not understand, this reader fails: in an answer
that is lost text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pytest_vllm.client.failure import CheckFailed

__all__ = ["Event", "events"]

# Not str.splitlines: it also splits at U+2028 and friends, which may stand in the text.
_LINE_END = re.compile(r"\r\n|\n|\r")
_FIELDS = frozenset({"data", "event", "id", "retry"})


@dataclass(frozen=True)
class Event:
    """One event: its data lines joined, and its name ("message" where the server gives none)."""

    data: str
    name: str = "message"


def events(parts: Iterable[bytes]) -> Iterator[Event]:
    """Give each event as soon as its last byte is there, however the bytes were cut.

    Raises:
        CheckFailed: Not UTF-8, a line that is no field, or an event without its blank line.
    """
    open_event = _OpenEvent()
    for line in _lines(_decode(parts)):
        if line:
            open_event.add(line)
        elif event := open_event.finish():
            yield event
    if open_event.begun:
        raise CheckFailed("Every event of a stream must end with a blank line")


def _decode(parts: Iterable[bytes]) -> Iterator[str]:
    """Bytes to text; a character may be cut anywhere between two parts."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for part in parts:
            yield decoder.decode(part)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        rest = error.object[error.start : error.start + 8]
        raise CheckFailed("A stream must be UTF-8", seen=rest.hex(" ")) from None


def _lines(texts: Iterable[str]) -> Iterator[str]:
    """Text to lines. A CR at the end of a part waits: an LF may follow."""
    rest = ""
    for text in texts:
        rest += text
        held = "\r" if rest.endswith("\r") else ""
        *lines, rest = _LINE_END.split(rest[: len(rest) - len(held)])
        rest += held
        yield from lines
    *lines, rest = _LINE_END.split(rest)
    yield from lines
    if rest:
        yield rest


@dataclass
class _OpenEvent:
    """The lines of the event that is being read."""

    lines: list[str] = field(default_factory=list)
    name: str = ""

    @property
    def begun(self) -> bool:
        return bool(self.lines or self.name)

    def add(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name and name not in _FIELDS:
            raise CheckFailed(
                "Every line of a stream must be an SSE field such as `data:`", seen=line
            )
        value = value.removeprefix(" ")
        if name == "data":
            self.lines.append(value)
        elif name == "event":
            self.name = value

    def finish(self) -> Event | None:
        """Close the event; None when only comments (keep-alive) came since the last one."""
        lines, name = self.lines, self.name
        self.lines, self.name = [], ""
        if not lines:
            return None
        return Event("\n".join(lines), name or "message")
