"""POST /v1/messages (Anthropic) of `known-answer/chat`: the content blocks of one answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer.automata import AUTOMATA, Automaton
from pytest_vllm.suite.ask_for_more import message

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("known-answer/chat", "messages", "tools"),
    pytest.mark.endpoint("POST /v1/messages"),
    pytest.mark.source("Anthropic API reference: tool use"),
]

CALLING = [word for word, automaton in AUTOMATA.items() if automaton.calls]
PARAMETERS = {
    "get_weather": ("city", "days", "metric"),
    "get_time": ("zone", "places", "options"),
    "ping": (),
}
TOOLS = [
    {
        "name": name,
        "description": f"Calls {name}",
        "input_schema": {"type": "object", "properties": {each: {} for each in parameters}},
    }
    for name, parameters in PARAMETERS.items()
]


def _request(api: Api, word: str) -> Request:
    return message(api.model, AUTOMATA[word].question, max_tokens=48, tools=TOOLS)


def _blocks(automaton: Automaton) -> list[tuple[str, Any]]:
    """What comes before the calls is a block of its own, and so is each call."""
    said = [("text", automaton.content)] if automaton.content else []
    return [*said, *((call.name, json.loads(call.arguments)) for call in automaton.calls)]


def _is(automaton: Automaton, answer: Answer) -> None:
    seen = [_said(block) for block in answer.json["content"]]
    seen = [block for block in seen if block != ("text", "")]
    expected = _blocks(automaton)
    rule = "The content must be the text and then the calls, in order, a block for each"
    must(seen == expected, rule, expected=expected, seen=seen)


def _said(block: Mapping[str, Any]) -> tuple[str, Any]:
    """A block as `_blocks` has it. Some reasoning parsers take all that comes first for thought."""
    if block["type"] == "tool_use":
        return block["name"], block["input"]
    return "text", block.get("text", block.get("thinking"))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("word", CALLING)
def test_each_call_is_a_block(api: Api, word: str, streamed: bool) -> None:
    request = _request(api, word)
    answer = api.whole(request) if streamed else api.ask(request)
    answer.check(lambda seen: _is(AUTOMATA[word], seen))
