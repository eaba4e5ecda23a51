"""Tool calls and reasoning of one choice of a chat answer, read against the request. Pure.

Sources: OpenAI API reference (chat, `tools`, `tool_choice`); vLLM docs, Tool Calling and Reasoning
Outputs. A function that is not `strict` may get arguments that are no object (vLLM 0.32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.shapes import COUNT, NAME, STRING, Shape, conform, exactly
from pytest_vllm.client.strict_json import parse_json

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request

__all__ = ["REASONING", "assemble", "read", "reasoning_of"]

#: Where the reasoning stands; `reasoning_content` before vLLM 0.12, and elsewhere.
REASONING = ("reasoning", "reasoning_content")

_CALL: Shape = {"id": NAME, "type": exactly("function"), "function": {"name": NAME}}


def read(
    message: Mapping[str, Any], finish_reason: str | None, request: Request, dialect: Dialect
) -> None:
    """Check the tool calls and the reasoning of a message. Raises CheckFailed."""
    _check_reasoning(message, request)
    calls = message.get("tool_calls")
    if calls is not None:
        conform(calls, [_CALL], "message.tool_calls")
    calls = calls or []
    _check_finish(calls, finish_reason, request, dialect)
    if not calls:
        return
    ids = [call["id"] for call in calls]
    must(len(set(ids)) == len(ids), "The ids of tool calls must be unique", seen=ids)
    _check_choice(calls, request)
    if _wanted(request) not in ("auto", "none"):
        rule = "content must be empty where tool_choice asks for a call"
        must(not message.get("content"), rule, seen=message.get("content"))
    for place, call in enumerate(calls):
        cut = finish_reason == "length" and place == len(calls) - 1
        _check_arguments(call["function"], request, cut=cut)


def reasoning_of(message: Mapping[str, Any]) -> str | None:
    """The reasoning in a message or a delta, under whichever name."""
    return next((message[name] for name in REASONING if message.get(name) is not None), None)


def _check_reasoning(message: Mapping[str, Any], request: Request) -> None:
    seen = [message[name] for name in REASONING if message.get(name) is not None]
    for text in seen:
        must(isinstance(text, str), "Reasoning must be a string, or null", seen=text)
    must(len(set(seen)) < 2, "The two names of the reasoning must say the same", seen=seen)
    if request.get("include_reasoning") is False:
        must(not any(seen), "With include_reasoning=false there must be no reasoning", seen=seen)


def _wanted(request: Request) -> str:
    """`auto`, `none`, `required`, or `named`; without tools, none."""
    if not request.get("tools"):
        return "none"
    choice = request.get("tool_choice", "auto")
    return choice if isinstance(choice, str) else "named"


def _check_finish(
    calls: Sequence[Any], reason: str | None, request: Request, dialect: Dialect
) -> None:
    """A call is asked for or allowed, and told by finish_reason."""
    wanted = _wanted(request)
    must(
        bool(calls) or reason != "tool_calls", "tool_calls must be there where they end the answer"
    )
    if wanted == "none":
        must(
            not calls, "Without tools, or with tool_choice none, no tool must be called", seen=calls
        )
    elif not calls:
        forced = wanted in ("required", "named") and reason not in ("length", "content_filter")
        must(not forced, f"With tool_choice {wanted}, a tool must be called", seen=Text(reason))
    elif wanted == "named":
        good = ("stop", "length") if dialect.since(0, 29) else ("stop", "length", "tool_calls")
        must(reason in good, "A named tool's call must end with stop", expected=good, seen=reason)
    elif wanted == "auto" or dialect.since(0, 29):
        good = ("tool_calls", "length")
        must(reason in good, "Tool calls must end the answer", expected=good[0], seen=reason)


def _check_choice(calls: Sequence[Mapping[str, Any]], request: Request) -> None:
    names = [call["function"]["name"] for call in calls]
    offered = [tool["function"]["name"] for tool in request.get("tools")]
    choice = request.get("tool_choice")
    if isinstance(choice, Mapping):
        offered = [choice["function"]["name"]]
        must(names == offered, "Just the named tool must be called", expected=offered, seen=names)
    strange = [name for name in names if name not in offered]
    must(not strange, "Only tools of the request must be called", expected=offered, seen=strange)
    if request.get("parallel_tool_calls") is False:
        must(len(calls) == 1, "With parallel_tool_calls=false, one tool must be called", seen=names)


def _check_arguments(function: Mapping[str, Any], request: Request, *, cut: bool) -> None:
    """They are JSON in a string; an object, unless vLLM is free to choose."""
    text = function.get("arguments")
    if cut and text is None:
        return
    conform(text, STRING, "function.arguments")
    if cut:
        return
    try:
        arguments = parse_json(str(text))
    except ValueError:
        raise CheckFailed("function.arguments must be JSON", seen=text) from None
    tool = next(t["function"] for t in request.get("tools") if _name(t) == function["name"])
    if _wanted(request) == "auto" or tool.get("strict"):
        must(isinstance(arguments, dict), "function.arguments must be an object", seen=text)
    if tool.get("strict"):
        _check_schema(arguments, tool.get("parameters"))


def _name(tool: Mapping[str, Any]) -> str:
    return str(tool["function"]["name"])


def _check_schema(arguments: Any, schema: Any) -> None:
    """Check the arguments of a strict function by its own schema."""
    import jsonschema

    error = next(iter(jsonschema.Draft202012Validator(schema or {}).iter_errors(arguments)), None)
    if error is not None:
        raise CheckFailed(
            "The arguments of a strict function must fit its schema",
            expected=Text(error.message),
            seen=arguments,
        )


def assemble(deltas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Put the deltas of one choice together: `tool_calls` and `reasoning`, if they came.

    Raises CheckFailed: calls whose pieces are out of order, or whose head is not in the first.
    """
    calls: list[dict[str, Any]] = []
    for delta in deltas:
        pieces = delta.get("tool_calls")
        if pieces is not None:
            must(pieces, "An empty list of tool_calls must not be streamed", seen=delta)
            conform(pieces, [{"index": COUNT}], "delta.tool_calls")
        for piece in pieces or ():
            _add(calls, piece)
    texts = [text for delta in deltas if (text := reasoning_of(delta)) is not None]
    for text in texts:
        conform(text, STRING, "delta.reasoning")
    return {
        **({"tool_calls": calls} if calls else {}),
        **({"reasoning": "".join(texts)} if texts else {}),
    }


def _add(calls: list[dict[str, Any]], piece: Mapping[str, Any]) -> None:
    index, function = piece["index"], piece.get("function") or {}
    conform(function, {}, "delta.tool_calls.function")
    arguments = function.get("arguments")
    if arguments is not None:
        conform(arguments, STRING, "delta.tool_calls.function.arguments")
    if index == len(calls):
        conform(piece, _CALL, "The first piece of a call")
        head = {"name": function["name"], "arguments": arguments or ""}
        calls.append({"id": piece["id"], "type": "function", "function": head})
        return
    order = "Tool calls must come one after the other, with the indices 0, 1, …"
    must(index == len(calls) - 1, order, expected=len(calls) - 1, seen=index)
    call = calls[index]
    for name, before, now in (
        ("id", call["id"], piece.get("id")),
        ("name", call["function"]["name"], function.get("name")),
    ):
        rule = f"The {name} of a tool call must be whole, and come in its first piece only"
        must(now is None or now == "", rule, expected=before, seen=now)
    call["function"]["arguments"] += arguments or ""
