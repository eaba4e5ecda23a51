"""Fault: one way in which a server is broken, and the words to declare it in.

A fault sits between `Ask` and `Reply`: it may change the request before it is passed on, the whole
answer, the events of a stream as they come by, or answer itself. Each is declared by one call:

    drops("seed")                                            # a parameter that never arrives
    whole(lambda answer, ask: answer.pop("usage"))           # of every unstreamed answer
    chunks(lambda chunk, ask: chunk.pop("model"))            # of every chunk of a stream
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.proxy.messages import Ask, Body, Frame, Reply, frames

Forward = Callable[[Ask], Reply]
Apply = Callable[[Ask, Forward], Reply]
Start = Callable[[], Apply]
Change = Callable[[Body, Body], Any]
When = Callable[[Body], Any]

C, H = "/v1/completions", "/v1/chat/completions"
R, M = "/v1/responses", "/v1/messages"
TOKENIZE, DETOKENIZE, EMBED = "/tokenize", "/detokenize", "/v1/embeddings"
MODELS, METRICS, HEALTH, VERSION = "/v1/models", "/metrics", "/health", "/version"
GEN = (C, H)
ALL = (C, H, R, M)


@dataclass(frozen=True)
class Fault:
    """One way to be broken.

    Attributes:
        report: The id of the user's report in reports.toml that it re-creates or is nearest to; ""
            for one that was thought up from a rule.
        start: Makes a fresh state; its result stands between client and server.
        on: `any`, or what the served model must be to show it: `chat`, `known`, `embed`.
    """

    name: str
    report: str
    start: Start
    on: str = "any"


def _always(body: Body) -> bool:
    return True


def plain(apply: Apply) -> Start:
    """A fault without a memory."""
    return lambda: apply


# --- requests -------------------------------------------------------------------------------------


def asks(change: Callable[[Body], Any], paths: tuple[str, ...] = ALL) -> Start:
    """Change the body of a request in place before it is passed on."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        body = ask.body if ask.route in paths else {}
        if body:
            change(body)
            ask = ask.with_body(body)
        return forward(ask)

    return plain(apply)


def drops(*names: str, paths: tuple[str, ...] = ALL) -> Start:
    """Parameters that are accepted and ignored."""
    return asks(lambda body: [body.pop(name, None) for name in names], paths)


def sets(paths: tuple[str, ...] = ALL, **fields: Any) -> Start:
    """Parameters that are replaced where they were given."""

    def change(body: Body) -> None:
        for name, value in fields.items():
            if name in body:
                with contextlib.suppress(TypeError, AttributeError):  # a value of a wrong type
                    body[name] = value(body[name]) if callable(value) else value

    return asks(change, paths)


# --- whole answers --------------------------------------------------------------------------------


def replies(
    change: Callable[[Reply, Ask], Reply | None],
    paths: tuple[str, ...] = ALL,
    when: Callable[[Reply, Ask], Any] = lambda reply, ask: True,
) -> Start:
    """Change a reply, whatever it is."""

    def apply(ask: Ask, forward: Forward) -> Reply:
        reply = forward(ask)
        if ask.route in paths and when(reply, ask):
            return change(reply, ask) or reply
        return reply

    return plain(apply)


def put(reply: Reply, body: Any) -> None:
    """Replace the JSON body of a reply."""
    import json

    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    reply.parts = [content]
    if "content-length" in reply.headers:
        reply.headers["content-length"] = str(len(content))


def whole(change: Change, paths: tuple[str, ...] = GEN, when: When = _always) -> Start:
    """Change the JSON object of an unstreamed answer in place."""

    def edit(reply: Reply, ask: Ask) -> None:
        body = reply.body
        if isinstance(body, dict) and when(ask.body):
            change(body, ask.body)
            put(reply, body)

    good = lambda reply, ask: reply.status == 200 and not reply.is_stream  # noqa: E731
    return replies(edit, paths, good)


def refusals(change: Change, paths: tuple[str, ...] = ALL, status: int | None = None) -> Start:
    """Change the JSON object of a refusal in place, and its status."""

    def edit(reply: Reply, ask: Ask) -> None:
        body = reply.body
        if isinstance(body, dict):
            change(body, ask.body)
            put(reply, body)
        reply.status = status or reply.status

    return replies(edit, paths, lambda reply, ask: 400 <= reply.status < 500)


# --- streams --------------------------------------------------------------------------------------

Streaming = Callable[[Iterator[Frame], Body], Iterable[Frame]]


def stream(change: Streaming, paths: tuple[str, ...] = GEN, when: When = _always) -> Start:
    """Change the events of a stream: a generator from events to events."""

    def edit(reply: Reply, ask: Ask) -> None:
        if when(ask.body):
            events = frames(iter(reply.parts))
            reply.parts = (bytes(frame) for frame in change(events, ask.body))

    return replies(edit, paths, lambda reply, ask: reply.status == 200 and reply.is_stream)


def chunks(change: Change, paths: tuple[str, ...] = GEN, when: When = _always) -> Start:
    """Change each chunk of a stream in place; False leaves it out."""

    def each(events: Iterator[Frame], ask: Body) -> Iterator[Frame]:
        for frame in events:
            chunk = frame.chunk
            if chunk is None:
                yield frame
            elif change(chunk, ask) is not False:
                yield frame.with_chunk(chunk)

    return stream(each, paths, when)


def wire(
    change: Callable[[Iterator[bytes]], Iterable[bytes]], paths: tuple[str, ...] = GEN
) -> Start:
    """Change the bytes of a stream; each part is one event."""

    def edit(reply: Reply, ask: Ask) -> None:
        reply.parts = change(bytes(frame) for frame in frames(iter(reply.parts)))

    return replies(edit, paths, lambda reply, ask: reply.status == 200 and reply.is_stream)


# --- both -----------------------------------------------------------------------------------------


def together(*starts: Start) -> Start:
    """Several changes that are one fault; the last is next to the server."""

    def begin() -> Apply:
        applies = [start() for start in starts]

        def apply(ask: Ask, forward: Forward) -> Reply:
            for one in reversed(applies):
                forward = (lambda a, f: lambda ask: a(ask, f))(one, forward)
            return forward(ask)

        return apply

    return begin


def objects(change: Change, paths: tuple[str, ...] = GEN, when: When = _always) -> Start:
    """Change answers and chunks alike."""
    return together(whole(change, paths, when), chunks(change, paths, when))


def choices(change: Change, paths: tuple[str, ...] = GEN, when: When = _always) -> Start:
    """Change each choice of answers and chunks alike."""
    return objects(each_choice(change), paths, when)


def each_choice(change: Change) -> Change:
    """A change of a choice as a change of the object that has it."""

    def every(body: Body, ask: Body) -> None:
        for choice in body.get("choices") or []:
            change(choice, ask)

    return every


def text_of(choice: Body) -> str:
    """The text of a choice, whole or streamed."""
    if "text" in choice:
        return choice["text"] or ""
    return (choice.get("message") or choice.get("delta") or {}).get("content") or ""


def say(choice: Body, text: str) -> None:
    """Replace the text of a choice that has one."""
    if "text" in choice:
        choice["text"] = text
    else:
        part = choice.get("message") or choice.get("delta") or {}
        if isinstance(part.get("content"), str):
            part["content"] = text


def texts(change: Callable[[str], str], paths: tuple[str, ...] = GEN) -> Start:
    """Change the text of each choice, and of each chunk by itself."""

    def edit(choice: Body, ask: Body) -> None:
        say(choice, change(text_of(choice)))

    return choices(edit, paths)
