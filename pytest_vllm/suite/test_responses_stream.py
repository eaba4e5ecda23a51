"""POST /v1/responses: the stream, what a request says again, and formats."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.responses_items import LOGPROBS
from pytest_vllm.suite.ask_for_more import FREE, SCHEMA, TIMES, agree, is_city, respond, text

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("responses"),
    pytest.mark.endpoint("POST /v1/responses (stream)"),
    pytest.mark.source("OpenAI API reference: responses, streaming events"),
]

#: Whatever is asked for, the stream must add up to the same answer.
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one token": {"max_output_tokens": 1},
    "longer": {"max_output_tokens": 40},
    "unicode": {"input": "Please say unicode"},
    "logprobs": {"include": [LOGPROBS], "top_logprobs": 2},
    "logprobs of the tokens alone": {"include": [LOGPROBS], "top_logprobs": 0},
    "sampled": {"temperature": 1, "top_p": 0.9, "seed": 5},
    "everything echoed": {
        "instructions": "Sei kürzer 😀",
        "metadata": {"ключ": "值", "a": "1"},
        "user": "user-1",
        "truncation": "auto",
        "parallel_tool_calls": False,
        "store": False,
        "temperature": 0.5,
        "top_p": 0.25,
        "seed": 1,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
    },
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_stream_adds_up_to_the_answer(api: Api, name: str) -> None:
    answer = api.both(respond(api.model, **REQUESTS[name]), ignore=TIMES)
    body, asked = answer.json, REQUESTS[name]
    for field in ("presence_penalty", "frequency_penalty"):
        if field in asked and field in body:
            rule = f"`{field}` must be repeated from the request"
            must(body[field] == asked[field], rule, expected=asked[field], seen=body[field])


def test_nulls_are_as_if_not_given(api: Api) -> None:
    names = ("instructions", "metadata", "text", "top_p", "user", "include", "reasoning")
    more: dict[str, Any] = dict.fromkeys((*names, "previous_response_id", "stream", "store"))
    agree(
        "An optional field that is null must be as if it were not given",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model, **more)),
    )


@pytest.mark.parametrize("name", ["truncation", "background", "service_tier", "tools"])
def test_a_null_is_the_default(api: Api, name: str) -> None:
    agree(
        f"`{name}` that is null must be as if it were not given",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model).but(**{name: None})),
    )


def test_an_unknown_field_is_ignored(api: Api) -> None:
    agree(
        "A field that the server does not know must not change the answer",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model, safety_identifier="x", prompt_cache_key="y", zzz=1)),
    )


def test_text_is_the_default_format(api: Api) -> None:
    agree(
        "text.format text must be the default",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model, text={"format": {"type": "text"}})),
    )


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_json_schema_is_kept(api: Api, streamed: bool) -> None:
    form = {"type": "json_schema", "name": "place", "schema": SCHEMA, "strict": True}
    more = {"text": {"format": form}, "max_output_tokens": 256, **FREE}
    request = respond(api.model, **more)
    answer = api.whole(request) if streamed else api.ask(request)
    must(answer.json["status"] == "completed", "A short JSON must end by itself", seen=text(answer))
    answer.check(lambda a: is_city(json.loads(text(a))))


def test_a_json_object_is_one(api: Api) -> None:
    more = {"text": {"format": {"type": "json_object"}}, "max_output_tokens": 64, **FREE}
    answer = api.ask(respond(api.model, **more))
    good = text(answer).lstrip().startswith("{")
    must(good, "With json_object the text must be an object", seen=text(answer))


@pytest.mark.requires("vllm")
def test_a_choice_is_kept(api: Api) -> None:
    for word in ("yes", "no"):
        answer = api.ask(respond(api.model, structured_outputs={"choice": [word]}))
        rule = "With one choice the text must be it"
        must(text(answer) == word, rule, expected=word, seen=text(answer))


def test_a_cut_stream_ends_with_response_incomplete(api: Api) -> None:
    stream = api.stream(respond(api.model, max_output_tokens=2))
    assert stream.whole is not None
    status, last = stream.whole.json["status"], stream.chunks[-1]["type"]
    must(last == f"response.{status}", "The last event must be named after the status", seen=last)


def test_a_cut_message_is_incomplete(api: Api) -> None:
    body = api.ask(respond(api.model, max_output_tokens=2)).json
    seen = [item["status"] for item in body["output"]]
    good = body["status"] != "incomplete" or seen[-1] == "incomplete"
    must(good, "The message that was cut must be incomplete, too", seen=seen)


def test_an_answer_says_that_there_is_no_error(api: Api) -> None:
    body = api.ask(respond(api.model, max_output_tokens=1)).json
    must("error" in body, "`error` must be there, and null", seen=None)


def test_an_answer_says_which_format_it_has(api: Api) -> None:
    body = api.ask(respond(api.model, max_output_tokens=1)).json
    kind = ((body.get("text") or {}).get("format") or {}).get("type")
    must(kind == "text", "text.format.type must be text by default", seen=body.get("text"))


def test_tool_choice_is_auto_by_default(api: Api) -> None:
    seen = api.ask(respond(api.model, max_output_tokens=1)).json["tool_choice"]
    must(seen == "auto", "tool_choice must be auto by default", expected="auto", seen=seen)


def test_the_texts_done_event_has_the_logprobs(api: Api) -> None:
    stream = api.stream(respond(api.model, include=[LOGPROBS], max_output_tokens=3))
    done = next(c for c in stream.chunks if c["type"] == "response.output_text.done")
    deltas = [c for c in stream.chunks if c["type"] == "response.output_text.delta"]
    expected = sum(len(c.get("logprobs") or []) for c in deltas)
    seen = len(done.get("logprobs") or [])
    rule = "output_text.done must have the logprobs of all its deltas"
    must(seen == expected, rule, expected=expected, seen=seen)
