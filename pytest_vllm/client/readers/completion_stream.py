"""A stream of POST /v1/completions, put together into the answer that it stands for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.chunks import by_index, check_chunks, usage_of

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Stream

__all__ = ["assemble"]


def assemble(stream: Stream, dialect: Dialect) -> dict[str, Any]:
    """Check the chunks, and return the body that the unstreamed answer would have.

    Raises CheckFailed.
    """
    check_chunks(stream, shapes.COMPLETION_CHUNK)
    usage = usage_of(stream)
    head = {k: stream.chunks[0][k] for k in ("id", "object", "created", "model")}
    choices = [_choice(index, parts) for index, parts in sorted(by_index(stream).items())]
    return {**head, "choices": choices, "usage": usage}


def _choice(index: int, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "index": index,
        "text": "".join(part["text"] for part in parts),
        "finish_reason": parts[-1]["finish_reason"],
        "stop_reason": parts[-1].get("stop_reason"),
        "logprobs": _joined([part["logprobs"] for part in parts if part.get("logprobs")]),
        "token_ids": _ids([part["token_ids"] for part in parts if part.get("token_ids")]),
        "prompt_token_ids": next(
            (p["prompt_token_ids"] for p in parts if p.get("prompt_token_ids")), None
        ),
    }


def _joined(logprobs: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Logprobs whose lists are those of all parts, one after another."""
    if not logprobs:
        return None
    return {name: [e for part in logprobs for e in part.get(name) or []] for name in logprobs[0]}


def _ids(lists: Sequence[list[int]]) -> list[int] | None:
    return [i for ids in lists for i in ids] if lists else None
