"""POST /v1/messages, read strictly against its request.

Source: Anthropic API reference (messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import messages_shapes as shapes
from pytest_vllm.client.readers.common import check_json_type, check_model, must
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["input_total", "read"]

#: What vLLM's ids begin with: its own chat ids up to 0.32, Anthropic's `msg_` after that.
_IDS = ("msg_", "chatcmpl-")


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    conform(body, shapes.MESSAGE)
    if dialect.is_vllm:
        good = body["id"].startswith(_IDS) and len(body["id"]) > 12
        must(good, "The id of a message must be msg_… or chatcmpl-… and unique", seen=body["id"])
    check_model(body["model"], request)
    for at, block in enumerate(body["content"]):
        _check_block(block, f"content[{at}]", request)
    _check_tools(body, request)
    _check_stop(body, request)
    _check_usage(body, request)


def input_total(usage: Mapping[str, Any]) -> int:
    """All tokens of the prompt: those read anew, and those from a cache."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in names)


def _check_block(block: Mapping[str, Any], where: str, request: Request) -> None:
    conform(block, shapes.BLOCKS.get(block["type"], {}), where)
    if block["type"] == "text":
        for stop in request.get("stop_sequences", []):
            must(
                stop not in block["text"],
                f"{where}.text must end before the stop sequence",
                expected=f"no {stop!r}",
                seen=block["text"],
            )


def _check_tools(body: Mapping[str, Any], request: Request) -> None:
    """Tools are used if, and as, the request allows."""
    uses = [block for block in body["content"] if block["type"] == "tool_use"]
    names = [tool.get("name") for tool in request.get("tools", [])]
    choice = request.get("tool_choice", {})
    kind = choice.get("type", "auto") if names else "none"
    allowed = {"none": [], "tool": [choice.get("name")]}.get(kind, names)
    for use in uses:
        rule = f"A tool_use must be of a tool that the request allows (tool_choice {kind})"
        must(use["name"] in allowed, rule, expected=allowed, seen=use["name"])
    ids = [use["id"] for use in uses]
    must(len(set(ids)) == len(ids), "Each tool_use must have an id of its own", seen=ids)
    cut = body["stop_reason"] in ("max_tokens", "stop_sequence")
    must(
        uses or cut or kind not in ("any", "tool"),
        f"With tool_choice {kind} there must be a tool_use",
        seen=body["content"],
    )
    if choice.get("disable_parallel_tool_use"):
        must(len(uses) <= 1, "disable_parallel_tool_use must give at most one", seen=len(uses))
    if not cut:
        must(
            (body["stop_reason"] == "tool_use") == bool(uses),
            'stop_reason must be "tool_use" where there is a tool_use block, and only there',
            seen={"stop_reason": body["stop_reason"], "tool_use blocks": len(uses)},
        )


def _check_stop(body: Mapping[str, Any], request: Request) -> None:
    """`stop_sequence` names the one that was met, and is null otherwise."""
    reason, sequence = body["stop_reason"], body.get("stop_sequence")
    asked = request.get("stop_sequences", [])
    if reason == "stop_sequence":
        rule = "stop_sequence must be the one of stop_sequences that was met"
        must(sequence in asked, rule, expected=asked, seen=sequence)
    else:
        rule = f"stop_sequence must be null where stop_reason is {reason}"
        must(sequence is None, rule, seen=sequence)


def _check_usage(body: Mapping[str, Any], request: Request) -> None:
    usage, limit = body["usage"], request.get("max_tokens")
    must(
        input_total(usage) > 0,
        "usage.input_tokens must count the prompt",
        seen=usage,
    )
    output = usage["output_tokens"]
    must(output > 0, "usage.output_tokens must count at least one token", seen=output)
    if limit is None:
        return
    must(output <= limit, f"usage.output_tokens must be at most max_tokens={limit}", seen=output)
    if body["stop_reason"] == "max_tokens":
        must(
            output == limit,
            f"stop_reason max_tokens must come after exactly max_tokens={limit} tokens",
            seen=output,
        )
