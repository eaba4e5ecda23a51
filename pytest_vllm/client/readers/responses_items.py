"""The output items of /v1/responses: messages, function calls, reasoning. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import responses_shapes as shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.shapes import NAME, conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request

__all__ = ["LOGPROBS", "check_item", "check_outputs", "text_of"]

#: The member of `include` that asks for logprobs.
LOGPROBS = "message.output_text.logprobs"

_PREFIX = {"message": "msg_", "function_call": "fc_", "reasoning": "rs_"}


def check_outputs(body: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """Check all items of a finished answer against its request. Raises CheckFailed."""
    items, done = body["output"], body["status"] == "completed"
    for at, item in enumerate(items):
        check_item(item, f"output[{at}]", dialect)
        rule = f"output[{at}].status must be completed, as the response is"
        good = not done or item.get("status") in (None, "completed")
        must(good, rule, expected="completed", seen=item.get("status"))
    ids = [item["id"] for item in items if item.get("id")]
    must(len(set(ids)) == len(ids), "Each output item must have an id of its own", seen=ids)
    _check_calls(items, request, done=done)
    for where, part in _texts(items):
        _check_text(part, where, body, request)


def check_item(item: Mapping[str, Any], where: str, dialect: Dialect) -> None:
    """The shape of an item, and of its parts."""
    conform(item, shapes.OUTPUTS.get(item["type"], {}), where)
    prefix = _PREFIX.get(item["type"])
    if dialect.is_vllm and prefix:
        good = item["id"].startswith(prefix) and len(item["id"]) > len(prefix) + 7
        rule = f"{where}.id must begin with {prefix} and be long enough to be unique"
        must(good, rule, seen=item["id"])
    for at, part in enumerate(item.get("content") or []):
        conform(part, {"type": NAME}, f"{where}.content[{at}]")
        conform(part, shapes.PARTS.get(part["type"], {}), f"{where}.content[{at}]")


def text_of(body: Mapping[str, Any]) -> str:
    """The text of all messages, as the openai client's `output_text`."""
    return "".join(part["text"] for _, part in _texts(body["output"]))


def _texts(items: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for at, item in enumerate(items):
        if item["type"] == "message":
            for number, part in enumerate(item["content"]):
                if part["type"] == "output_text":
                    yield f"output[{at}].content[{number}]", part


def _check_calls(items: Sequence[Mapping[str, Any]], request: Request, *, done: bool) -> None:
    """Functions are called if, and as, the request allows."""
    calls = [item for item in items if item["type"] == "function_call"]
    names = [tool.get("name") for tool in request.get("tools", [])]
    choice = request.get("tool_choice", "auto") if names else "none"
    named = choice["name"] if isinstance(choice, Mapping) else None
    allowed = [] if choice == "none" else [named] if named else names
    for call in calls:
        rule = "A function_call must be of a tool that the request allows"
        must(call["name"] in allowed, rule, expected=allowed, seen=call["name"])
        if done:
            _check_arguments(call)
    ids = [call["call_id"] for call in calls]
    must(len(set(ids)) == len(ids), "Each function_call must have its own call_id", seen=ids)
    must(
        calls or not done or not (named or choice == "required"),
        f"With tool_choice {named or choice} there must be a function_call",
        seen=[item["type"] for item in items],
    )
    if request.get("parallel_tool_calls", True) is False:
        must(len(calls) <= 1, "parallel_tool_calls=false must give one call", seen=len(calls))


def _check_arguments(call: Mapping[str, Any]) -> None:
    try:
        json.loads(call["arguments"])
    except ValueError:
        rule = "The arguments of a function_call must be JSON"
        raise CheckFailed(rule, seen=call["arguments"]) from None


def _check_text(
    part: Mapping[str, Any], where: str, body: Mapping[str, Any], request: Request
) -> None:
    stops = request.get("stop", [])
    for stop in [stops] if isinstance(stops, str) else stops:
        kept = request.get("include_stop_str_in_output")
        rule = f"{where}.text must end before the stop string"
        must(kept or stop not in part["text"], rule, expected=f"no {stop!r}", seen=part["text"])
    kind = request.get("text", {}).get("format", {}).get("type", "text")
    if kind in ("json_object", "json_schema") and body["status"] == "completed":
        _check_json(part["text"], where, kind)
    _check_logprobs(part, where, body, request)


def _check_json(text: str, where: str, kind: str) -> None:
    try:
        value = json.loads(text)
    except ValueError:
        raise CheckFailed(f"{where}.text must be JSON ({kind})", seen=text) from None
    must(isinstance(value, dict) or kind != "json_object", f"{where}.text must be an object")


def _check_logprobs(
    part: Mapping[str, Any], where: str, body: Mapping[str, Any], request: Request
) -> None:
    """There if and only if they were asked for; one entry per token; candidates in order."""
    logprobs = part.get("logprobs")
    if LOGPROBS not in request.get("include", []):
        rule = f"{where}.logprobs must be empty where they were not asked for"
        must(not logprobs, rule, seen=logprobs)
        return
    conform(logprobs, [shapes.LOGPROB], f"{where}.logprobs")
    count, made = len(logprobs or []), body["usage"]["output_tokens"]
    rule = f"{where}.logprobs must have one entry for each token"
    # The token that ended the answer is not part of the text.
    must(count in (made, made - 1), rule, expected=made, seen=count)
    for at, entry in enumerate(logprobs or []):
        _check_entry(entry, f"{where}.logprobs[{at}]", request.get("top_logprobs", 0))


def _check_entry(entry: Mapping[str, Any], where: str, top: int) -> None:
    values = [other["logprob"] for other in entry["top_logprobs"]]
    for value in (entry["logprob"], *values):
        must(-10000 <= value <= 1e-6, f"{where} must be a logprob (0 or less)", seen=value)
    rule = f"{where}.top_logprobs must have the {top} best candidates, best first"
    must(top <= len(values) <= top + 1, rule, expected=top, seen=len(values))
    must(values[:top] == sorted(values[:top], reverse=True), rule, seen=values)
    for other in (entry, *entry["top_logprobs"]):
        spelled = bytes(other["bytes"]).decode(errors="replace")
        good = spelled == other["token"] or "\ufffd" in spelled or not other["token"]
        must(good, f"{where}.bytes must be the token's", expected=other["token"], seen=spelled)
