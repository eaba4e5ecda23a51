"""What every answer must be, whatever the test is about: one strict reader per endpoint.

A reader knows the request, and derives from it all that can be said of the answer: shape and
types, one choice per prompt and `n`, token counts, logprobs if and only if asked for, stop
strings. Streams are put together into the answer that they stand for (`Stream.whole`), which is
then read like any other. `Api` applies these to every exchange, so no test can forget.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.exchange import Answer
from pytest_vllm.client.readers import (
    chat,
    chat_stream,
    completion,
    completion_stream,
    count_tokens,
    embeddings,
    messages,
    messages_stream,
    models,
    responses,
    responses_stream,
    tokenize,
)

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Stream

__all__ = ["READERS", "Reader", "read", "read_stream"]


@dataclass(frozen=True)
class Reader:
    """How an endpoint's answers are read.

    Attributes:
        read: Checks an answer with status 200. Raises CheckFailed.
        assemble: Checks a stream chunk by chunk and puts it together. Raises CheckFailed.
    """

    read: Callable[[Answer, Dialect], None]
    assemble: Callable[[Stream, Dialect], dict[str, Any]] | None = None


#: By path. An endpoint that is not here is only read by its tests.
READERS: dict[str, Reader] = {
    "/v1/completions": Reader(completion.read, completion_stream.assemble),
    "/v1/chat/completions": Reader(chat.read, chat_stream.assemble),
    "/v1/responses": Reader(responses.read, responses_stream.assemble),
    "/v1/messages": Reader(messages.read, messages_stream.assemble),
    "/v1/messages/count_tokens": Reader(count_tokens.read),
    "/v1/models": Reader(models.read),
    "/v1/embeddings": Reader(embeddings.read),
    "/tokenize": Reader(tokenize.read),
    "/detokenize": Reader(tokenize.read_text),
}


def read(answer: Answer, dialect: Dialect) -> Answer:
    """Read an answer with status 200 strictly. Raises CheckFailed, with the curl line."""
    __tracebackhide__ = True
    reader = READERS.get(answer.request.path)
    return answer.check(lambda a: reader.read(a, dialect)) if reader else answer


def read_stream(stream: Stream, dialect: Dialect) -> Stream:
    """Read a stream strictly, and return it with its `whole`. Raises CheckFailed."""
    __tracebackhide__ = True
    reader = READERS.get(stream.request.path)
    if reader is None or reader.assemble is None:
        return stream
    assemble, found = reader.assemble, list[dict[str, Any]]()
    stream.check(lambda s: found.append(assemble(s, dialect)))
    whole = Answer(
        stream.request,
        stream.curl,
        stream.status,
        stream.headers,
        b"",
        sent_at=stream.sent_at,
    )
    whole.__dict__["json"] = found[0]
    whole.check(lambda a: reader.read(a, dialect))
    return replace(stream, whole=whole)
