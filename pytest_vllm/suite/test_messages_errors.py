"""POST /v1/messages (Anthropic): what must be refused, and how. On any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for_more import count_of, message, tool
from pytest_vllm.suite.refused import context_of, in_anthropic_envelope, refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("messages"),
    pytest.mark.endpoint("POST /v1/messages"),
    pytest.mark.source("Anthropic API reference: errors"),
]


def says(content: Any) -> dict[str, Any]:
    """One message of the user."""
    return {"messages": [{"role": "user", "content": content}]}


#: Fields of a request that make it wrong; `...` leaves one out.
BAD: dict[str, dict[str, Any]] = {
    "no model": {"model": ...},
    "model empty": {"model": ""},
    "no max_tokens": {"max_tokens": ...},
    "max_tokens null": {"max_tokens": None},
    "max_tokens 0": {"max_tokens": 0},
    "max_tokens negative": {"max_tokens": -1},
    "max_tokens a word": {"max_tokens": "many"},
    "no messages": {"messages": ...},
    "messages empty": {"messages": []},
    "messages a word": {"messages": "x"},
    "unknown role": {"messages": [{"role": "zzz", "content": "x"}]},
    "no content": {"messages": [{"role": "user"}]},
    "content null": says(None),
    "content a number": says(5),
    "content of an unknown type": says([{"type": "zzz"}]),
    "temperature negative": {"temperature": -1},
    "temperature a word": {"temperature": "hot"},
    "top_p above 1": {"temperature": 1, "top_p": 2},
    "top_k a word": {"temperature": 1, "top_k": "many"},
    "stop_sequences a word": {"stop_sequences": "x"},
    "stop_sequences of numbers": {"stop_sequences": [1]},
    "system a number": {"system": 5},
    "stream a word": {"stream": "maybe"},
    "tool without input_schema": {"tools": [{"name": "x"}]},
    "tool without name": {"tools": [{"input_schema": {"type": "object"}}]},
    "tool_choice unknown": {"tools": [tool()], "tool_choice": {"type": "zzz"}},
    "tool_choice without name": {"tools": [tool()], "tool_choice": {"type": "tool"}},
    "tool_choice not among tools": {
        "tools": [tool()],
        "tool_choice": {"type": "tool", "name": "zzz"},
    },
}
#: What is wrong for count_tokens, too.
UNCOUNTED = ("no model", "no messages", "messages empty", "unknown role", "no content")
#: Wrong in what they say, and wrong in how they are made.
VALUES = ("messages empty", "temperature negative", "top_p above 1", "tool_choice not among tools")
SHAPES = ("no max_tokens", "no messages", "max_tokens 0", "unknown role")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_request_is_refused(api: Api, name: str, streamed: bool) -> None:
    wrong = {"stream": True, **BAD[name]} if streamed else BAD[name]
    api.send(message(api.model).but(**wrong)).check(refused(400, 422))


@pytest.mark.parametrize("name", VALUES)
def test_a_wrong_value_is_refused_in_the_envelope_of_anthropic(api: Api, name: str) -> None:
    api.send(message(api.model).but(**BAD[name])).check(refused(400), in_anthropic_envelope)


@pytest.mark.parametrize("name", SHAPES)
def test_a_wrong_shape_is_refused_in_the_envelope_of_anthropic(api: Api, name: str) -> None:
    api.send(message(api.model).but(**BAD[name])).check(refused(400), in_anthropic_envelope)


@pytest.mark.endpoint("POST /v1/messages/count_tokens")
@pytest.mark.parametrize("name", UNCOUNTED)
def test_a_wrong_request_is_not_counted(api: Api, name: str) -> None:
    api.send(count_of(message(api.model)).but(**BAD[name])).check(refused(400, 422))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_an_unknown_model_is_not_found(api: Api, streamed: bool) -> None:
    asked = message("no-such-model", stream=streamed)
    api.send(asked).check(refused(404), in_anthropic_envelope)


@pytest.mark.endpoint("POST /v1/messages/count_tokens")
def test_the_tokens_of_an_unknown_model_are_not_counted(api: Api) -> None:
    api.send(count_of(message("no-such-model"))).check(refused(404), in_anthropic_envelope)


def test_the_type_of_a_bad_request_is_anthropics(api: Api) -> None:
    api.send(message(api.model, messages=[])).check(_has_type("invalid_request_error"))


def test_the_type_of_an_unknown_model_is_anthropics(api: Api) -> None:
    api.send(message("no-such-model")).check(_has_type("not_found_error"))


def _has_type(kind: str) -> Callable[[Answer], None]:
    def check(answer: Answer) -> None:
        seen = answer.json["error"]["type"]
        must(seen == kind, f"error.type must be {kind}", expected=kind, seen=seen)

    return check


@pytest.mark.requires("messages", "models")
def test_a_message_longer_than_the_context_is_refused(api: Api) -> None:
    asked = message(api.model, "word " * context_of(api))
    api.send(asked).check(refused(400), in_anthropic_envelope)
    api.send(asked.but(stream=True)).check(refused(400), in_anthropic_envelope)
