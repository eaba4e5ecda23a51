"""POST /v1/messages (Anthropic): tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for_more import (
    CACHED,
    FREE,
    SCHEMA,
    USER,
    agree,
    blocks,
    chat_of,
    count_of,
    heard,
    is_city,
    message,
    text,
    tool,
)

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("messages", "tools"),
    pytest.mark.endpoint("POST /v1/messages"),
    pytest.mark.source("Anthropic API reference: tool use"),
]

#: No model is so slow with JSON that it needs more.
ROOM = 300
CHOICES: dict[str, dict[str, Any]] = {
    "any": {"type": "any", "disable_parallel_tool_use": True},
    "tool": {"type": "tool", "name": "choose_city"},
}
USE = {"type": "tool_use", "id": "toolu_abc", "name": "choose_city", "input": {"city": "Rome"}}
RESULTS: dict[str, dict[str, Any]] = {
    "text": {"content": "sunny Monday"},
    "blocks": {"content": blocks("sunny Monday")},
    "error": {"content": "sunny Monday", "is_error": True},
}


def used(result: dict[str, Any]) -> list[Any]:
    """A conversation in which a tool was used."""
    answered = {"type": "tool_result", "tool_use_id": "toolu_abc", **result}
    turns = [{"role": "assistant", "content": [USE]}, {"role": "user", "content": [answered]}]
    return [USER, *turns]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("choice", CHOICES)
def test_a_tool_is_used(api: Api, choice: str, streamed: bool) -> None:
    tools = [tool(), tool("other")] if choice == "tool" else [tool()]
    asked = message(api.model, tools=tools, tool_choice=CHOICES[choice], max_tokens=ROOM, **FREE)
    answer = api.whole(asked) if streamed else api.ask(asked)
    answer.check(_is_one_use)


def _is_one_use(answer: Answer) -> None:
    body = answer.json
    seen = body["stop_reason"]
    must(seen == "tool_use", "stop_reason must be tool_use", expected="tool_use", seen=seen)
    uses = [block for block in body["content"] if block["type"] == "tool_use"]
    must(len(uses) == 1, "There must be one tool_use block", seen=body["content"])
    is_city(uses[0]["input"])
    must("<tool_call>" not in text(answer), "No markup must be left in the text", seen=text(answer))


def test_ids_of_tool_uses_are_unique(api: Api) -> None:
    more = {"tools": [tool()], "tool_choice": CHOICES["any"], "max_tokens": ROOM, **FREE}
    answers = api.together(*[lambda: api.ask(message(api.model, **more))] * 2)
    ids = [block.get("id") for answer in answers for block in answer.json["content"]]
    must(len(set(ids)) == len(ids) and None not in ids, "Ids must be unique", seen=ids)


def test_tool_choice_none_uses_nothing(api: Api) -> None:
    asked = message(api.model, tools=[tool()], tool_choice={"type": "none"})
    answer = api.both(asked, ignore=CACHED)
    must(answer.json["stop_reason"] != "tool_use", "With none there must be no tool_use")


def test_tools_count_as_in_chat(api: Api) -> None:
    function = {"name": "choose_city", "description": "Choose a city", "parameters": SCHEMA}
    tools = [{"type": "function", "function": {**function, "strict": True}}]
    agree(
        "Tools must add as many tokens to the prompt as in /v1/chat/completions",
        lambda: api.ask(chat_of(api.model, [USER], tools=tools, tool_choice="none")),
        lambda: api.ask(message(api.model, tools=[tool()], tool_choice={"type": "none"})),
        of=lambda a: heard(a)[1],
    )


@pytest.mark.endpoint("POST /v1/messages/count_tokens")
def test_count_tokens_counts_tools(api: Api) -> None:
    asked = message(api.model, tools=[tool()], max_tokens=1)
    expected, seen = heard(api.ask(asked))[1], api.ask(count_of(asked)).json["input_tokens"]
    must(seen == expected, "count_tokens must count the tools", expected=expected, seen=seen)


@pytest.mark.parametrize("name", RESULTS)
def test_the_result_of_a_tool_is_a_tool_message_of_chat(api: Api, name: str) -> None:
    made = {"name": "choose_city", "arguments": json.dumps(USE["input"])}
    call = {"id": "toolu_abc", "type": "function", "function": made}
    messages: list[Any] = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "toolu_abc", "content": "sunny Monday"},
    ]
    agree(
        "A tool_result must mean a message of the role tool in chat",
        lambda: api.ask(chat_of(api.model, messages)),
        lambda: api.ask(message(api.model, messages=used(RESULTS[name]))),
        lambda: api.whole(message(api.model, messages=used(RESULTS[name]))),
        of=heard,
    )


def test_a_longer_result_makes_a_longer_prompt(api: Api) -> None:
    short, long = (
        heard(api.ask(message(api.model, messages=used({"content": content}), max_tokens=1)))[1]
        for content in ("sunny", "sunny, and then a very long rain in the evening")
    )
    must(long > short, "The result of a tool must be in the prompt", seen=[short, long])


def test_a_json_schema_is_kept(api: Api) -> None:
    if not api.dialect.since(0, 32):
        api.unsupported("output_config came to vLLM late, and is no part of other servers")
    config = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = api.ask(message(api.model, output_config=config, max_tokens=256, **FREE))
    answer.check(lambda a: is_city(json.loads(text(a))))
