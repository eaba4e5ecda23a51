"""Tools, calls and results in the prompt, and malformed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.toolbox import PICK, PING, named

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("OpenAI API reference, chat: tools, messages"),
]

_CALL = {
    "id": "call_0123456789",
    "type": "function",
    "function": {"name": "pick_size", "arguments": '{"size": "small", "wrapped": true}'},
}
_EMPTY = {"id": "call_0123456789", "type": "function", "function": {"name": "ping"}}


def _history(call: dict[str, Any], result: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Which size?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]


def _no_arguments(text: str) -> dict[str, Any]:
    return {**_EMPTY, "function": {"name": "ping", "arguments": text}}


HISTORIES = {
    "result": _history(_CALL, "small, in red"),
    "result in parts": _history(_CALL, [{"type": "text", "text": "small, in red"}]),
    "arguments {}": _history(_no_arguments("{}"), "pong"),
    "no arguments": _history(_no_arguments(""), "pong"),
    "unicode": _history(_CALL, 'größe "L" 中文'),
}


def _tokenize(api: Api, **fields: Any) -> Answer:
    return api.send(Request("POST", "/tokenize", {"model": api.model, **fields}))


def _counted(api: Api, answer: Answer, **fields: Any) -> int:
    """Compare the prompt's tokens with what /tokenize counts, and return them."""
    whole: int = _tokenize(api, **fields).json["count"]

    def check(seen: Answer) -> None:
        count = seen.json["usage"]["prompt_tokens"]
        rule = "prompt_tokens must be what /tokenize counts for the same messages and tools"
        must(count == whole, rule, expected=whole, seen=count)

    answer.check(check)
    return whole


@pytest.mark.requires("vllm", "tokenize")
@pytest.mark.parametrize("choice", ["none", "auto"])
def test_tools_are_counted_as_in_the_prompt(api: Api, choice: str) -> None:
    if choice == "auto" and not api.has("tools"):
        api.unsupported("the server has no tool parser")
    request = chat(api.model, tools=[PICK, PING], tool_choice=choice, max_tokens=1)
    messages = (request.body or {})["messages"]
    _counted(api, api.ask(request), messages=messages, tools=[PICK, PING])


@pytest.mark.requires("vllm", "tokenize")
@pytest.mark.parametrize("kind", HISTORIES)
def test_calls_and_results_of_tools_are_part_of_the_prompt(api: Api, kind: str) -> None:
    messages = HISTORIES[kind]
    template = _tokenize(api, messages=messages)
    if template.status == 400 and not api.has("known-answer/chat"):
        api.unsupported(f"the chat template takes no tool messages: {template.text[:200]}")
    answer = api.both(chat(api.model).but(messages=messages, max_tokens=4))
    _counted(api, answer, messages=messages)


@pytest.mark.requires("vllm", "tokenize")
def test_a_result_in_parts_is_the_result(api: Api) -> None:
    parts, text = (_tokenize(api, messages=HISTORIES[k]) for k in ("result in parts", "result"))
    if text.status == 400 and not api.has("known-answer/chat"):
        api.unsupported(f"the chat template takes no tool messages: {text.text[:200]}")
    parts.check(
        lambda seen: must(
            seen.json["tokens"] == text.json["tokens"],
            "A tool's result in one text part must be the same prompt as the text",
            expected=text.json["tokens"][-20:],
            seen=seen.json["tokens"][-20:],
        )
    )


@pytest.mark.requires("known-answer/chat", "tokenize")
@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("tools", [[], [PICK, PING]], ids=["alone", "with tools"])
def test_the_prompt_is_the_predicted_one(api: Api, kind: str, tools: list[Any]) -> None:
    expected = predictor(api.model).chat_prompt_ids(HISTORIES[kind], tools=tools)
    fields = {"tools": tools} if tools else {}
    answer = _tokenize(api, messages=HISTORIES[kind], **fields)
    answer.check(
        lambda seen: must(
            seen.status == 200 and seen.json["tokens"] == expected,
            "The template must get tools, calls and results as they were sent",
            expected=predictor(api.model).decode(expected, skip_special_tokens=False),
            seen=predictor(api.model).decode(
                seen.json.get("tokens", []), skip_special_tokens=False
            ),
        )
    )


#: What is wrong, the fields, and the field that the refusal names.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "required without tools": ({"tool_choice": "required"}, "tool_choice"),
    "named without tools": ({"tool_choice": named("ping")}, "tool_choice"),
    "named but not offered": ({"tools": [PICK], "tool_choice": named("ping")}, "tool_choice"),
    "unknown tool_choice": ({"tools": [PING], "tool_choice": "zzz"}, "tool_choice"),
    "tool_choice without a name": (
        {"tools": [PING], "tool_choice": {"type": "function", "function": {}}},
        "tool_choice",
    ),
    "tools no list": ({"tools": "ping", "tool_choice": "none"}, "tools"),
    "tool without function": ({"tools": [{"type": "function"}], "tool_choice": "none"}, "tools"),
    "tool without name": (
        {"tools": [{"type": "function", "function": {}}], "tool_choice": "none"},
        "tools",
    ),
    "parameters no object": (
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": "x"}}],
            "tool_choice": "none",
        },
        "tools",
    ),
    "empty tools": ({"tools": [], "tool_choice": "required"}, "tools"),
}


@pytest.mark.requires("vllm")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wrong", BAD)
def test_malformed_tools_are_refused(api: Api, wrong: str, stream: bool) -> None:
    fields, param = BAD[wrong]
    request = chat(api.model, **fields)
    api.refused(
        request.but(stream=True) if stream else request,
        param=param if api.dialect.since(0, 32) and wrong != "empty tools" else None,
    )
