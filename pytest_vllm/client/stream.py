"""An OpenAI stream: JSON chunks, then `[DONE]`. Pure.

Used for every stream of completions and chat, so that each test checks the framing on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.refusals import server_message
from pytest_vllm.client.strict_json import parse_json

if TYPE_CHECKING:
    from pytest_vllm.client.sse import Event

__all__ = ["DONE", "chunks"]

DONE = "[DONE]"


def chunks(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Give the chunk of each event, and check that the stream ends as it must.

    Raises:
        CheckFailed: An event that is no JSON object, an error in mid-stream, or `[DONE]` that
            is missing, doubled or not the last.
    """
    done = False
    for event in events:
        if done:
            raise CheckFailed("Nothing must follow `data: [DONE]`", seen=event.data)
        if event.data == DONE:
            done = True
        else:
            yield _chunk(event.data)
    if not done:
        raise CheckFailed("A stream must end with `data: [DONE]`; it just ended")


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
