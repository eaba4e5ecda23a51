"""A stream of POST /v1/chat/completions, put together into the answer that it stands for. Pure.

Sources: OpenAI API reference (chat, streaming); vLLM, `chat_completion/serving.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers import tool_calls
from pytest_vllm.client.readers.chunks import by_index, check_chunks, usage_of
from pytest_vllm.client.readers.common import must

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request, Stream

__all__ = ["assemble"]


def assemble(stream: Stream, dialect: Dialect) -> dict[str, Any]:
    """Check the chunks, and return the body that the unstreamed answer would have.

    Raises CheckFailed.
    """
    check_chunks(stream, shapes.CHAT_COMPLETION_CHUNK)
    usage = usage_of(stream)
    head = {k: stream.chunks[0][k] for k in ("id", "created", "model")}
    parts = by_index(stream)
    for index, mine in parts.items():
        _check_roles(index, mine)
        _check_parts(mine, stream.request)
    choices = [_choice(index, mine) for index, mine in sorted(parts.items())]
    prompt_ids = [c["prompt_token_ids"] for c in stream.chunks if c.get("prompt_token_ids")]
    return {
        **head,
        "object": "chat.completion",
        "choices": choices,
        "usage": usage,
        "prompt_token_ids": prompt_ids[0] if prompt_ids else None,
    }


def _check_roles(index: int, parts: Sequence[Mapping[str, Any]]) -> None:
    roles = [part["delta"].get("role") for part in parts]
    must(
        roles[0] == "assistant",
        'The first delta must have the role "assistant"',
        seen=parts[0]["delta"],
    )
    must(
        not any(roles[1:]),
        f"Only the first delta of index {index} must have a role",
        seen=[role for role in roles if role],
    )


def _check_parts(parts: Sequence[Mapping[str, Any]], request: Request) -> None:
    """Deltas have what is new, and no more than that."""
    for part in parts:
        delta = part["delta"]
        for alien in ("text", "message"):
            must(alien not in part, f"A chunk of a chat must not have {alien}", seen=part)
        must(
            "tool_calls" not in delta or delta["tool_calls"],
            "A delta without tool calls must not have tool_calls",
            seen=delta,
        )
        echoed = request.get("echo") or request.get("tools")
        if request.get("logprobs") and delta.get("content") and not echoed:
            logprobs = part.get("logprobs")
            must(
                isinstance(logprobs, Mapping) and logprobs.get("content"),
                "A chunk with text must have the logprobs of its tokens",
                seen=part,
            )


def _choice(index: int, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    deltas = [part["delta"] for part in parts]
    contents = [delta["content"] for delta in deltas if delta.get("content") is not None]
    message = {"role": "assistant", "content": "".join(contents) if contents else None}
    return {
        "index": index,
        "message": {**message, **tool_calls.assemble(deltas)},
        "logprobs": _logprobs(parts),
        "finish_reason": parts[-1]["finish_reason"],
        "stop_reason": parts[-1].get("stop_reason"),
        "token_ids": _ids(parts),
    }


def _logprobs(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    found = [part["logprobs"] for part in parts if part.get("logprobs")]
    for logprobs in found:
        good = isinstance(logprobs, Mapping) and isinstance(logprobs.get("content"), list)
        must(good, "logprobs of a chunk must have a list `content`", seen=logprobs)
    return {"content": [e for lp in found for e in lp["content"]]} if found else None


def _ids(parts: Sequence[Mapping[str, Any]]) -> list[int] | None:
    lists = [part["token_ids"] for part in parts if part.get("token_ids") is not None]
    for ids in lists:
        must(isinstance(ids, list), "token_ids of a chunk must be a list", seen=ids)
    return [i for ids in lists for i in ids] if lists else None
