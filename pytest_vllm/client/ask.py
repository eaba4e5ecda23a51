"""Sending a request: the one place where tests meet HTTP.

`send` and `send_stream` take any answer; `ask` and `ask_stream` insist on the status and name
the two things that can be wrong before any check: no answer at all, and a refusal.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_vllm.client.curl import curl_line
from pytest_vllm.client.exchange import Answer, Request, Stream
from pytest_vllm.client.failure import CheckFailed, NoAnswer, Text
from pytest_vllm.client.refusals import is_chat_refusal, server_message
from pytest_vllm.client.sse import events
from pytest_vllm.client.stream import chunks, named_events
from pytest_vllm.errors import ChatNotSupported
from pytest_vllm.redaction import redact

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

__all__ = ["DEADLINE_S", "ask", "ask_stream", "send", "send_stream"]

#: Seconds for a whole answer, looked at with each part that comes. The client's own limit is for
#: the silence between two parts, so a stream that drips for ever would never reach it.
DEADLINE_S = 300.0

#: Endpoints whose events have names; all others stream OpenAI chunks.
NAMED = {"/v1/responses": named_events, "/v1/messages": named_events}


def ask(client: httpx.Client, request: Request, *, status: int = 200) -> Answer:
    """Send a request and return its answer, which must have this status.

    Raises:
        ChatNotSupported: The server says that the model has no chat template.
        NoAnswer: No connection, a cut one, or none within the deadline.
        CheckFailed: Another status.
    """
    __tracebackhide__ = True
    answer = send(client, request)
    _check_status(answer, status)
    return answer


def ask_stream(client: httpx.Client, request: Request) -> Stream:
    """Send a request whose answer is a stream, and read it to its end.

    Raises:
        ChatNotSupported, NoAnswer: As `ask`.
        CheckFailed: A refusal, or a stream that breaks the rules of `sse` or `stream`.
    """
    __tracebackhide__ = True
    exchange = send_stream(client, request)
    if isinstance(exchange, Answer):
        _check_status(exchange, 200)
        raise CheckFailed(
            "A stream must have the content type text/event-stream",
            seen=exchange.headers.get("content-type"),
        ).reproduced_by(exchange.curl)
    return exchange


def send(client: httpx.Client, request: Request, *, deadline_s: float = DEADLINE_S) -> Answer:
    """Send a request and read its answer, whatever it is. Raises NoAnswer."""
    __tracebackhide__ = True
    return _exchange(_Call(client, request, deadline_s), _Call.answer)


def send_stream(
    client: httpx.Client, request: Request, *, deadline_s: float = DEADLINE_S
) -> Stream | Answer:
    """Send a request and read the stream; what is no stream at all comes back as an Answer.

    Raises:
        NoAnswer: As `ask`; a stream that is cut or exceeds the deadline, too.
        CheckFailed: The stream breaks the rules of `sse` or `stream`.
    """
    __tracebackhide__ = True
    return _exchange(_Call(client, request, deadline_s), _Call.stream_or_answer)


class _Call:
    """One request on its way."""

    def __init__(self, client: httpx.Client, request: Request, deadline_s: float) -> None:
        self.client, self.request, self.deadline_s = client, request, deadline_s
        body: dict[str, Any] = (
            {"json": request.body} if request.content is None else {"content": request.content}
        )
        self.message = client.build_request(
            request.method,
            request.path,
            headers=dict(request.headers),
            timeout=self._timeout(),
            **body,
        )
        with_key = "authorization" in self.message.headers
        self.curl = curl_line(request, str(self.message.url), with_key=with_key)
        self.began, self.sent_at = time.monotonic(), time.time()

    def _timeout(self) -> httpx.Timeout:
        """The client's limits, but no silence longer than the whole answer may take."""
        import httpx

        limits = self.client.timeout
        silence = min(limits.read or self.deadline_s, self.deadline_s)
        return httpx.Timeout(limits.connect, read=silence, write=limits.write, pool=limits.pool)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began

    def answer(self, response: httpx.Response) -> Answer:
        content = b"".join(self._parts(response))
        head = (self.request, self.curl, response.status_code, response.headers)
        return Answer(*head, content, sent_at=self.sent_at)

    def stream_or_answer(self, response: httpx.Response) -> Stream | Answer:
        media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        if response.status_code != 200 or media_type.lower() != "text/event-stream":
            return self.answer(response)
        charset = response.charset_encoding
        if charset is not None and charset.lower() not in ("utf-8", "utf8"):
            raise CheckFailed("A stream of events must be in UTF-8", seen=charset)
        read = NAMED.get(self.request.path, chunks)
        came = [(c, self.elapsed_s) for c in read(events(self._parts(response)))]
        parts, times = tuple(c for c, _ in came), tuple(second for _, second in came)
        head = (self.request, self.curl, response.status_code, response.headers)
        return Stream(*head, parts, times, sent_at=self.sent_at)

    def _parts(self, response: httpx.Response) -> Iterator[bytes]:
        size = 0
        for part in response.iter_bytes():
            size += len(part)
            yield part
            if self.elapsed_s > self.deadline_s:
                raise NoAnswer(
                    f"{self.request} must be complete within {self.deadline_s:g} s",
                    seen=Text(f"{size} bytes, and still more"),
                )


def _exchange(call: _Call, read: Callable[[_Call, httpx.Response], T]) -> T:
    """Send, read and close; whatever goes wrong, say how to reproduce it."""
    __tracebackhide__ = True
    import httpx

    try:
        with contextlib.closing(call.client.send(call.message, stream=True)) as response:
            return read(call, response)
    except httpx.RequestError as error:
        seen = Text(f"{type(error).__name__} after {call.elapsed_s:.1f} s ({error})")
        failure: CheckFailed = NoAnswer(f"{call.request} must be answered in full", seen=seen)
    except CheckFailed as broken:
        failure = broken
    raise failure.reproduced_by(call.curl).with_traceback(None) from None


def _check_status(answer: Answer, status: int) -> None:
    __tracebackhide__ = True
    if answer.status == status:
        return
    said = f"{answer.status}: {server_message(answer.text)}"
    if is_chat_refusal(answer.status, answer.text):
        raise ChatNotSupported(redact(f"{answer.request} was refused with {said}\n  {answer.curl}"))
    raise CheckFailed(
        f"{answer.request} must be answered with {status}", seen=Text(said)
    ).reproduced_by(answer.curl)
