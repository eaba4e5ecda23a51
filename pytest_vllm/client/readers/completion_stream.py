"""A stream of POST /v1/completions, put together into the answer that it stands for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.chunks import by_index, check_chunks, usage_of
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.completion_usage import limit_of

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
    parts = by_index(stream)
    for index in sorted(parts):
        _check_parts(parts[index], stream, dialect)
    head = {k: stream.chunks[0][k] for k in ("id", "object", "created", "model")}
    choices = [_choice(index, parts[index]) for index in sorted(parts)]
    if stream.request.get("echo") and not stream.request.get("return_token_ids"):
        # vLLM gives them with the echoed text, unasked; a test of its own says so.
        choices = [{**choice, "prompt_token_ids": None} for choice in choices]
    return {**head, "choices": choices, "usage": usage}


def _check_parts(parts: Sequence[dict[str, Any]], stream: Stream, dialect: Dialect) -> None:
    """Each part carries what was asked for, and only the first the ids of the prompt (vLLM)."""
    request = stream.request
    if request.get("logprobs") is None:
        seen = [part["logprobs"] for part in parts if part.get("logprobs") is not None]
        must(not seen, "A chunk must have no logprobs where they were not asked for", seen=seen)
    if not dialect.is_vllm:
        return
    for part in parts:
        for name, asked in (
            ("logprobs", request.get("logprobs") is not None),
            ("token_ids", request.get("return_token_ids")),
        ):
            must(
                part.get(name) is not None or not asked,
                f"Every chunk must have the {name} of its text where they were asked for",
                seen=part,
            )
        _check_ids(part, stream)
    late = [part["prompt_token_ids"] for part in parts[1:] if part.get("prompt_token_ids")]
    must(not late, "Only the first chunk of a choice must have prompt_token_ids", seen=late)


def _check_ids(part: dict[str, Any], stream: Stream) -> None:
    """As many ids as logprobs in each part; the echoed prompt has logprobs only."""
    ids, logprobs = part.get("token_ids"), part.get("logprobs")
    if ids is None or not logprobs or limit_of(stream.request) == 0:
        return
    echoed = part.get("prompt_token_ids") if stream.request.get("echo") else None
    expected = len(ids) + len(echoed or ())
    must(
        len(logprobs["tokens"]) == expected,
        "A chunk must have logprobs for exactly its own tokens",
        expected=expected,
        seen=len(logprobs["tokens"]),
    )


def _choice(index: int, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "index": index,
        "text": "".join(part["text"] for part in parts),
        "finish_reason": parts[-1]["finish_reason"],
        # Missing stays missing: the reader of the whole says whether that is right.
        **{k: parts[-1][k] for k in ("stop_reason",) if k in parts[-1]},
        **_logprobs(parts),
        "token_ids": _ids([part["token_ids"] for part in parts if part.get("token_ids")]),
        "prompt_token_ids": next(
            (p["prompt_token_ids"] for p in parts if p.get("prompt_token_ids")), None
        ),
    }


def _logprobs(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Logprobs whose lists are those of all parts, one after another."""
    found = [part["logprobs"] for part in parts if part.get("logprobs")]
    if not found:
        return {"logprobs": None} if any("logprobs" in part for part in parts) else {}
    names = dict.fromkeys(name for part in found for name in part)
    return {"logprobs": {n: [e for part in found for e in part.get(n) or []] for n in names}}


def _ids(lists: Sequence[list[int]]) -> list[int] | None:
    return [i for ids in lists for i in ids] if lists else None
