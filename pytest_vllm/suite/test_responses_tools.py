"""POST /v1/responses: functions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for_more import (
    FREE,
    TIMES,
    USER,
    agree,
    chat_of,
    function,
    heard,
    is_city,
    respond,
    text,
)

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("responses", "tools"),
    pytest.mark.endpoint("POST /v1/responses"),
    pytest.mark.source("OpenAI API reference: responses, function calling"),
]

#: No model is so slow with JSON that it needs more.
ROOM = 300
CHOICES: dict[str, Any] = {
    "required": "required",
    "named": {"type": "function", "name": "choose_city"},
}
CALL = {"type": "function_call", "call_id": "call_abc", "name": "choose_city"}
ARGUMENTS = '{"city": "Rome"}'


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("choice", CHOICES)
def test_a_function_is_called(api: Api, choice: str, streamed: bool) -> None:
    asked = respond(
        api.model,
        tools=[function(), function("other")] if choice == "named" else [function()],
        tool_choice=CHOICES[choice],
        parallel_tool_calls=False,
        max_output_tokens=ROOM,
        **FREE,
    )
    answer = api.whole(asked) if streamed else api.ask(asked)
    answer.check(_is_one_call)


def _is_one_call(answer: Answer) -> None:
    body = answer.json
    rule = "A call of a function must end the answer"
    must(body["status"] == "completed", rule, expected="completed", seen=body["status"])
    calls = [item for item in body["output"] if item["type"] == "function_call"]
    must(len(calls) == 1, "There must be one function_call", seen=body["output"])
    is_city(json.loads(calls[0]["arguments"]))
    must("<tool_call>" not in text(answer), "No markup must be left in the text", seen=text(answer))


def test_call_ids_are_unique(api: Api) -> None:
    more = {"tools": [function()], "tool_choice": "required", "max_output_tokens": ROOM, **FREE}
    asked = respond(api.model, parallel_tool_calls=False, **more)
    answers = api.together(*[lambda: api.ask(asked)] * 2)
    ids = [item.get("call_id") for answer in answers for item in answer.json["output"]]
    must(len(set(ids)) == len(ids) and None not in ids, "call_id must be unique", seen=ids)


def test_tool_choice_none_calls_nothing(api: Api) -> None:
    agree(
        "With tool_choice none a function must not be called, streamed or not",
        lambda: api.ask(respond(api.model, tools=[function()], tool_choice="none")),
        lambda: api.whole(respond(api.model, tools=[function()], tool_choice="none")),
        of=heard,
    )


def test_the_output_of_a_function_is_read(api: Api) -> None:
    def items(output: Any) -> list[Any]:
        call = {**CALL, "arguments": ARGUMENTS}
        return [USER, call, {"type": "function_call_output", "call_id": "call_abc", **output}]

    asked = respond(api.model, items({"output": "sunny Monday"}))
    answer = api.both(asked, ignore=TIMES)
    other = api.ask(respond(api.model, items({"output": "a long and very rainy Tuesday"})))
    less, more = heard(answer)[1], heard(other)[1]
    must(more > less, "A longer output of a function must make a longer prompt", seen=[less, more])


@pytest.mark.requires("tokenize")
def test_the_output_of_a_function_is_a_tool_message_of_chat(api: Api) -> None:
    call = {**CALL, "arguments": ARGUMENTS}
    output = {"type": "function_call_output", "call_id": "call_abc", "output": "sunny Monday"}
    made = {"name": "choose_city", "arguments": ARGUMENTS}
    assistant = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_abc", "type": "function", "function": made}],
    }
    result = {"role": "tool", "tool_call_id": "call_abc", "content": "sunny Monday"}
    plain = heard(api.ask(respond(api.model)))[1]
    chatted = api.ask(chat_of(api.model, [USER])).json["usage"]["prompt_tokens"]
    longer = heard(api.ask(respond(api.model, [USER, call, output])))[1]
    expected = api.ask(chat_of(api.model, [USER, assistant, result])).json["usage"]
    rule = "The items of a function must add as many tokens to the prompt as in chat"
    seen, right = longer - plain, expected["prompt_tokens"] - chatted
    must(seen == right, rule, expected=right, seen=seen)
