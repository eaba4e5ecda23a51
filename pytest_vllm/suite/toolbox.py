"""Tools to be called, and requests that make any model call one, soon and whole.

A model with random weights never ends of itself: between the words of JSON it writes white space
without end, which is JSON too. A frequency penalty makes that dear, and `strict` schemas that
leave little choice make the rest short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import chat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["FORCED", "LEVELS", "PICK", "PING", "both", "calling", "named", "tool"]

#: Greedy, and done after about 140 tokens of one byte each. Where the markup of `hermes` ends a
#: call there is nothing more to say; other formats have no such text.
FORCED: dict[str, Any] = {"frequency_penalty": 2.0, "stop": ["</tool_call>"], "max_tokens": 220}


def tool(name: str, *, strict: bool = True, **properties: Any) -> dict[str, Any]:
    """A function whose parameters are all required."""
    schema = {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }
    function = {"name": name, "description": f"May {name}.", "parameters": schema}
    return {"type": "function", "function": {**function, **({"strict": True} if strict else {})}}


PICK = tool(
    "pick_size",
    size={"type": "string", "enum": ["small", 'größe "L"']},
    wrapped={"type": "boolean"},
)
#: Only one value fits: what is streamed and what is not must be the same.
LEVELS = tool(
    "set_levels",
    xs={"type": "array", "items": {"const": 7}, "minItems": 2, "maxItems": 2},
    o={
        "type": "object",
        "properties": {"k": {"const": 'é\n"q"'}, "n": {"const": -1.5}},
        "required": ["k", "n"],
        "additionalProperties": False,
    },
)
PING = tool("ping")


def named(name: str) -> dict[str, Any]:
    """The `tool_choice` that wants this tool."""
    return {"type": "function", "function": {"name": name}}


def calling(api: Api, *tools: dict[str, Any], choice: Any = "required", **more: Any) -> Request:
    """A chat whose answer must be a call of one of these tools.

    Raises Unsupported where vLLM wants a parser on its command line first (since 0.32; before,
    only tool_choice auto did).
    """
    if not api.has("tools"):
        refusal = api.once("forced tool calls", lambda: _refusal(api))
        if refusal:
            api.unsupported(refusal)
    asked = {"tools": [*tools], "tool_choice": choice, **FORCED, **more}
    return chat(api.model, "Please call a tool.", **asked)


def _refusal(api: Api) -> str:
    """What the server says if it lacks a tool parser; only that counts."""
    fields = {"tools": [PING], "tool_choice": "required", "max_tokens": 1}
    answer = api.send(chat(api.model).but(**fields))
    lacks = answer.status == 400 and "--tool-call-parser" in answer.text
    return f"{answer.request}: {answer.text[:200]}" if lacks else ""


def both(api: Api, request: Request, *, ignore: Sequence[str] = ()) -> Answer:
    """As `Api.both`, but content that is null is the same as empty content.

    vLLM writes null where all was a thought or a call, and OpenAI does; a stream that has no
    content adds up to the empty one.

    Raises what `Api.both` raises.
    """
    __tracebackhide__ = True
    answer = api.both(request, ignore=("content", *ignore))
    whole = api.whole(request.but(stream=True))
    found = difference(_contents(answer), _contents(whole))
    if found:
        raise CheckFailed(
            f"The stream must add up to the unstreamed answer; content{found.where} differs",
            expected=found.left,
            seen=found.right,
        ).reproduced_by(whole.curl, answer.curl)
    return answer


def _contents(answer: Answer) -> list[str]:
    return [choice["message"].get("content") or "" for choice in answer.json["choices"]]
