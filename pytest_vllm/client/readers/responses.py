"""POST /v1/responses, read strictly against its request.

Sources: OpenAI API reference (responses); vLLM, `entrypoints/openai/responses/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import responses_shapes as shapes
from pytest_vllm.client.readers.common import (
    check_created,
    check_id,
    check_json_type,
    check_model,
    must,
)
from pytest_vllm.client.readers.responses_items import check_outputs
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["check_head", "read"]

#: What a request says that its answer repeats as it is.
_ECHOED = (
    "instructions",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "temperature",
    "truncation",
    "user",
    "background",
    "top_p",
)

#: What the answer says where the request does not; () is null or nothing.
_DEFAULTS: dict[str, tuple[Any, ...]] = {
    "instructions": (),
    "metadata": (),
    "previous_response_id": (),
    "user": (),
    "tools": (),
    "parallel_tool_calls": (True,),
    "truncation": ("disabled",),
    "background": (False,),
    "tool_choice": ("auto", "none"),
}


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    check_head(body, request, dialect)
    check_created(body["created_at"], answer)
    _check_status(body)
    check_outputs(body, request, dialect)
    _check_usage(body, request)


def check_head(body: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """What an answer says before anything is generated: its shape, and the request again."""
    conform(body, shapes.RESPONSE)
    check_id(body["id"], "resp_", dialect)
    check_model(body["model"], request)
    must(not body.get("error"), "`error` must be null", seen=body.get("error"))
    for name in _ECHOED:
        asked = request.get(name)
        # Greedy decoding needs no top_p: vLLM resets it, and says so.
        if asked is not None and not (name == "top_p" and request.get("temperature") == 0):
            rule = f"`{name}` must be repeated from the request"
            must(body.get(name) == asked, rule, expected=asked, seen=body.get(name))
    for name, values in _DEFAULTS.items():
        if request.get(name) is None and not (name == "tool_choice" and request.get("tools")):
            _check_default(name, body.get(name), values)
    _check_tools(body, request)
    _check_format(body, request)
    limit = request.get("max_output_tokens")
    if limit is not None:  # a long prompt may leave less room
        rule = "`max_output_tokens` must be repeated from the request"
        must(0 < (body.get("max_output_tokens") or limit) <= limit, rule, expected=limit)


def _check_default(name: str, seen: Any, values: tuple[Any, ...]) -> None:
    nothing = not seen and seen is not False
    must(
        seen in values or (nothing and not (values and seen == "")),
        f"`{name}` must have its default where the request does not give it",
        expected=values[0] if values else None,
        seen=seen,
    )


def _check_tools(body: Mapping[str, Any], request: Request) -> None:
    asked = [tool.get("name") for tool in request.get("tools", [])]
    seen = [tool.get("name") for tool in body["tools"]]
    must(seen == asked, "`tools` must be repeated from the request", expected=asked, seen=seen)
    choice = request.get("tool_choice")
    if asked and choice is not None:
        same = body["tool_choice"] == choice
        rule = "`tool_choice` must be repeated from the request"
        must(same, rule, expected=choice, seen=body["tool_choice"])
    elif asked:
        rule = "`tool_choice` must be auto where there are tools"
        must(body["tool_choice"] == "auto", rule, seen=body["tool_choice"])


def _check_format(body: Mapping[str, Any], request: Request) -> None:
    asked = request.get("text", {}).get("format")
    if asked is None:
        return
    seen = (body.get("text") or {}).get("format") or {}
    for name, value in asked.items():
        rule = f"`text.format.{name}` must be repeated from the request"
        must(seen.get(name) == value, rule, expected=value, seen=seen.get(name))


def _check_status(body: Mapping[str, Any]) -> None:
    """Done, or cut and said why."""
    status, details = body["status"], body["incomplete_details"]
    rule = "status must be completed or incomplete once the answer is done"
    must(status in ("completed", "incomplete"), rule, seen=status)
    if status == "completed":
        must(not details, "incomplete_details must be null where it is completed", seen=details)
        return
    reason = (details or {}).get("reason")
    must(
        reason in ("max_output_tokens", "content_filter"),
        "incomplete_details.reason must say why the answer is incomplete",
        expected="max_output_tokens",
        seen=reason,
    )


def _check_usage(body: Mapping[str, Any], request: Request) -> None:
    conform(body.get("usage"), shapes.USAGE, "usage")
    usage = body["usage"]
    given, made = usage["input_tokens"], usage["output_tokens"]
    rule = "usage.total_tokens must be input_tokens + output_tokens"
    must(usage["total_tokens"] == given + made, rule, expected=given + made, seen=usage)
    must(given > 0, "usage.input_tokens must count the prompt", seen=given)
    must(made > 0, "usage.output_tokens must count at least one token", seen=made)
    cached = usage["input_tokens_details"]["cached_tokens"]
    thought = usage["output_tokens_details"]["reasoning_tokens"]
    must(cached <= given, "cached_tokens must be at most input_tokens", seen=cached)
    must(thought <= made, "reasoning_tokens must be at most output_tokens", seen=thought)
    limit = body.get("max_output_tokens") or request.get("max_output_tokens")
    if limit is None:
        return
    must(made <= limit, f"usage.output_tokens must be at most {limit}", seen=made)
    if (body["incomplete_details"] or {}).get("reason") == "max_output_tokens":
        rule = f"An answer cut by max_output_tokens={limit} must have that many tokens"
        must(made == limit, rule, expected=limit, seen=made)
