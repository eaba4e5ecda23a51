"""A stream of POST /v1/chat/completions, put together into the answer that it stands for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.chunks import by_index, check_chunks, usage_of
from pytest_vllm.client.readers.common import must

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Stream

__all__ = ["assemble"]


def assemble(stream: Stream, dialect: Dialect) -> dict[str, Any]:
    """Check the chunks, and return the body that the unstreamed answer would have.

    Raises CheckFailed.
    """
    check_chunks(stream, shapes.CHAT_COMPLETION_CHUNK)
    usage = usage_of(stream)
    head = {k: stream.chunks[0][k] for k in ("id", "created", "model")}
    choices = [_choice(index, parts) for index, parts in sorted(by_index(stream).items())]
    return {**head, "object": "chat.completion", "choices": choices, "usage": usage}


def _choice(index: int, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    deltas = [part["delta"] for part in parts]
    must(
        deltas[0].get("role") == "assistant",
        'The first delta must have the role "assistant"',
        seen=deltas[0],
    )
    contents = [delta["content"] for delta in deltas if delta.get("content") is not None]
    return {
        "index": index,
        "message": {"role": "assistant", "content": "".join(contents)},
        "finish_reason": parts[-1]["finish_reason"],
        "stop_reason": parts[-1].get("stop_reason"),
    }
