"""POST /v1/responses: what must be refused, and how. On any model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.responses_items import LOGPROBS
from pytest_vllm.suite.ask_for_more import function, respond
from pytest_vllm.suite.refused import context_of, refused

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("responses"),
    pytest.mark.endpoint("POST /v1/responses"),
    pytest.mark.source("OpenAI API reference: responses"),
]

#: Fields of a request that make it wrong; `...` leaves one out.
BAD: dict[str, dict[str, Any]] = {
    "no input": {"input": ...},
    "input null": {"input": None},
    "input a number": {"input": 5},
    "input an object": {"input": {"role": "user"}},
    "input empty": {"input": []},
    "item of an unknown type": {"input": [{"type": "zzz"}]},
    "item without content": {"input": [{"role": "user"}]},
    "unknown role": {"input": [{"role": "zzz", "content": "x"}]},
    "max_output_tokens 0": {"max_output_tokens": 0},
    "max_output_tokens negative": {"max_output_tokens": -1},
    "max_output_tokens a word": {"max_output_tokens": "many"},
    "temperature negative": {"temperature": -1},
    "temperature a word": {"temperature": "hot"},
    "top_p 0": {"top_p": 0, "temperature": 1},
    "top_p above 1": {"top_p": 1.5, "temperature": 1},
    "stream a word": {"stream": "maybe"},
    "metadata a word": {"metadata": "x"},
    "instructions a number": {"instructions": 5},
    "truncation unknown": {"truncation": "zzz"},
    "include unknown": {"include": ["zzz"]},
    "top_logprobs too many": {"include": [LOGPROBS], "top_logprobs": 1000},
    "tools not a list": {"tools": "zzz"},
    "tool without name": {"tools": [{"type": "function"}]},
    "tool_choice without tools": {"tool_choice": "required"},
    "tool_choice unknown": {"tools": [function()], "tool_choice": "zzz"},
    "tool_choice not among tools": {
        "tools": [function()],
        "tool_choice": {"type": "function", "name": "zzz"},
    },
    "format unknown": {"text": {"format": {"type": "zzz"}}},
    "format without schema": {"text": {"format": {"type": "json_schema", "name": "x"}}},
    "background without store": {"background": True, "store": False},
}
PLACES = {"get": ("GET", ""), "cancel": ("POST", "/cancel")}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", BAD)
def test_a_wrong_request_is_refused(api: Api, name: str, streamed: bool) -> None:
    wrong = {"stream": True, **BAD[name]} if streamed else BAD[name]
    api.send(respond(api.model).but(**wrong)).check(refused(400, 422))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_an_unknown_model_is_not_found(api: Api, streamed: bool) -> None:
    api.send(respond("no-such-model", stream=streamed)).check(refused(404))


def test_an_unknown_previous_response_is_refused(api: Api) -> None:
    asked = respond(api.model, previous_response_id="resp_0123456789abcdef")
    api.send(asked).check(refused(404, 400))


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_response_is_not_found(api: Api, place: str) -> None:
    method, end = PLACES[place]
    path = f"/v1/responses/resp_0123456789abcdef{end}"
    api.send(Request(method, path)).check(refused(404))


@pytest.mark.chat_model
def test_a_response_that_is_not_stored_is_not_found(api: Api) -> None:
    made = api.ask(respond(api.model, store=False, max_output_tokens=1))
    api.send(Request("GET", f"/v1/responses/{made.json['id']}")).check(refused(404))


def test_an_input_longer_than_the_context_is_refused(api: Api) -> None:
    asked = respond(api.model, "word " * context_of(api))
    api.send(asked).check(refused(400))
    api.send(asked.but(stream=True)).check(refused(400))


@pytest.mark.chat_model
@pytest.mark.requires("responses", "vllm")
def test_truncation_auto_shortens_a_long_input(api: Api) -> None:
    most = context_of(api)
    asked = respond(api.model, "word " * most, truncation="auto", max_output_tokens=1)
    seen = api.ask(asked).json["usage"]["input_tokens"]
    must(seen < most, "With truncation auto the prompt must fit", expected=f"<{most}", seen=seen)
