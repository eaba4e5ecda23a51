"""The two kinds of streams: JSON chunks with `[DONE]`, and named events. Pure.

Used for every stream, so that each test checks the framing on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.refusals import server_message
from pytest_vllm.client.strict_json import parse_json

if TYPE_CHECKING:
    from pytest_vllm.client.sse import Event

__all__ = ["DONE", "chunks", "named_events"]

DONE = "[DONE]"


def chunks(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Give the chunk of each event, and check that the stream ends as it must.

    The stream of `/v1/completions` and `/v1/chat/completions` (OpenAI API reference, "Streaming").

    Raises:
        CheckFailed: An event that is no JSON object or has a name, an error in mid-stream, or
            `[DONE]` that is missing, doubled or not the last.
    """
    done = False
    for event in events:
        if done:
            raise CheckFailed("Nothing must follow `data: [DONE]`", seen=event.data)
        if event.name != "message":
            # A browser's EventSource would not give it to whoever listens for messages.
            raise CheckFailed("A chunk must be an event without a name", seen=event.name)
        if event.data == DONE:
            done = True
        else:
            yield _chunk(event.data)
    if not done:
        raise CheckFailed("A stream must end with `data: [DONE]`; it just ended")


def named_events(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Give the data of each event, whose `type` must be the name of the event.

    The stream of `/v1/responses` (OpenAI) and `/v1/messages` (Anthropic). Neither has `[DONE]`;
    one at the very end is let pass, since no client of them minds.

    Raises:
        CheckFailed: An event that is no JSON object, has another name than its type, or is an
            error; anything after `[DONE]`.
    """
    done = False
    for event in events:
        if done:
            raise CheckFailed("Nothing must follow `data: [DONE]`", seen=event.data)
        if event.data == DONE:
            done = True
            continue
        data = _chunk(event.data)
        if data.get("type") != event.name:
            raise CheckFailed(
                "The name of an event must be its type", expected=data.get("type"), seen=event.name
            )
        yield data


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk = parse_json(data)
    except ValueError:
        raise CheckFailed("Every event of a stream must be one JSON object", seen=data) from None
    if not isinstance(chunk, dict):
        raise CheckFailed("Every event of a stream must be one JSON object", seen=chunk)
    if chunk.get("error"):
        raise CheckFailed("A stream must not break off with an error", seen=server_message(data))
    return chunk
