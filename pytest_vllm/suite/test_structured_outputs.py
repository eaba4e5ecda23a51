"""Structured outputs: `response_format` and vLLM's `structured_outputs`, on both endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_structured import Fits, begins, is_choice, matches
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refused import refuse, still_well
from pytest_vllm.suite.ask_for import chat, completion
from pytest_vllm.suite.constraints import (
    CONSTRAINTS,
    FORMATS,
    SCHEMAS,
    TEMPTATIONS,
    calm,
    json_schema,
    spoken,
    tempting,
)
from pytest_vllm.suite.facts import tokens_of

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

CHAT, COMPLETIONS = "POST /v1/chat/completions", "POST /v1/completions"

pytestmark = [
    pytest.mark.optional,
    pytest.mark.endpoint(COMPLETIONS),
    pytest.mark.source("vLLM docs: structured outputs"),
]

vllm = pytest.mark.requires("vllm")
on_chat = [pytest.mark.chat_model, pytest.mark.endpoint(CHAT)]
both_endpoints = pytest.mark.parametrize(
    "path", ["completions", pytest.param("chat", marks=on_chat)]
)


def _asking(api: Api, path: str, **fields: Any) -> Request:
    make = chat if path == "chat" else completion
    return make(api.model, "Count from one", **{"max_tokens": 64, **fields})


def _texts(answer: Answer) -> list[str]:
    choices = answer.json["choices"]
    return [c["text"] if "text" in c else c["message"]["content"] or "" for c in choices]


def _fits(answer: Answer, fits: Fits, *, finish_reason: str = "stop") -> None:
    """Each choice ended as it should, and fits."""
    __tracebackhide__ = True

    def check(answer: Answer) -> None:
        for choice, text in zip(answer.json["choices"], _texts(answer), strict=True):
            fits(text)
            must(
                choice["finish_reason"] == finish_reason,
                f"finish_reason must be {finish_reason} where a constraint is met",
                seen=choice["finish_reason"],
            )

    answer.check(check)


@vllm
@both_endpoints
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_is_kept(api: Api, path: str, name: str) -> None:
    constraint = CONSTRAINTS[name]
    request = _asking(api, path, **spoken(api, constraint.fields), **calm_for(api, name))
    _fits(api.both(request), constraint.fits)


def calm_for(api: Api, name: str) -> dict[str, Any]:
    """JSON alone has places for white space without end."""
    return calm(api, closed=name == "json_object") if "json" in name else {}


@vllm
@pytest.mark.chat_model
@pytest.mark.endpoint(CHAT)
@pytest.mark.source("OpenAI API reference: response_format")
@pytest.mark.parametrize("name", FORMATS)
def test_a_response_format_is_kept(api: Api, name: str) -> None:
    constraint = FORMATS[name]
    request = _asking(api, "chat", **constraint.fields, **calm_for(api, name))
    _fits(api.both(request), constraint.fits)


@vllm
@pytest.mark.parametrize("name", ["json_object", "json_schema, nested"])
def test_a_response_format_is_kept_by_completions(api: Api, name: str) -> None:
    constraint = FORMATS[name]
    request = _asking(api, "completions", **constraint.fields, **calm_for(api, name))
    _fits(api.both(request), constraint.fits)


@vllm
@both_endpoints
@pytest.mark.parametrize("name", ["choice", "regex", "json"])
def test_a_constraint_is_kept_by_each_of_n(api: Api, path: str, name: str) -> None:
    constraint = CONSTRAINTS[name]
    sampled = {"n": 2, "temperature": 1.0, "seed": 3}
    request = _asking(api, path, **sampled, **spoken(api, constraint.fields), **calm_for(api, name))
    _fits(api.both(request), constraint.fits)


@vllm
@pytest.mark.chat_model
@pytest.mark.endpoint(CHAT)
def test_a_response_format_is_kept_by_each_of_n(api: Api) -> None:
    constraint = FORMATS["json_schema, enums"]
    sampled = {"n": 2, "temperature": 1.0, "seed": 4}
    _fits(
        api.both(_asking(api, "chat", **sampled, **constraint.fields, **calm(api))), constraint.fits
    )


@vllm
@pytest.mark.requires("tokenize")
@both_endpoints
@pytest.mark.parametrize("name", TEMPTATIONS)
def test_a_schema_is_kept_against_a_bias(api: Api, path: str, name: str) -> None:
    schema, bias, pattern = TEMPTATIONS[name]
    outer = {"type": "object", "properties": {"v": schema}, "required": ["v"]}
    asked = spoken(api, {"json": {**outer, "additionalProperties": False}})
    answer = api.both(_asking(api, path, **asked, **tempting(api, bias)))
    _fits(answer, matches(r'\s*\{\s*"v"\s*:\s*(' + pattern + r")\s*\}\s*"))


@vllm
@pytest.mark.requires("tokenize")
@both_endpoints
@pytest.mark.parametrize("letter", ["q", "z", "x"])
def test_any_choice_can_be_the_answer(api: Api, path: str, letter: str) -> None:
    [token, *more] = tokens_of(api, letter, add_special_tokens=False)
    drawn = {"logit_bias": {str(token): 100}}
    if more or _texts(api.ask(_asking(api, path, **{**drawn, "max_tokens": 1}))) != [letter]:
        api.unsupported(f"{letter!r} is not one token")
    choices = {"choice": ["q9", "z9", "x9"]}
    _fits(api.both(_asking(api, path, **drawn, **spoken(api, choices))), is_choice([f"{letter}9"]))


@vllm
@both_endpoints
def test_a_constrained_text_has_its_logprobs(api: Api, path: str) -> None:
    asked = {"logprobs": True, "top_logprobs": 3} if path == "chat" else {"logprobs": 3}
    constraint = CONSTRAINTS["one choice"]
    answer = api.both(_asking(api, path, **asked, **spoken(api, constraint.fields)))
    _fits(answer, constraint.fits)


@vllm
@both_endpoints
@pytest.mark.parametrize("choice", ["yes zq", "no zq", "7"])
def test_the_only_choice_is_the_answer(api: Api, path: str, choice: str) -> None:
    _fits(api.both(_asking(api, path, **spoken(api, {"choice": [choice]}))), is_choice([choice]))


@vllm
@both_endpoints
def test_max_tokens_cuts_a_constrained_text(api: Api, path: str) -> None:
    choices = ["Zq7 amber and basalt and cobalt", "Wk3 basalt and cobalt and dune"]
    request = _asking(api, path, max_tokens=2, **spoken(api, {"choice": choices}))
    _fits(api.both(request), begins(choices), finish_reason="length")


@vllm
@both_endpoints
def test_a_constraint_ends_with_its_request(api: Api, path: str) -> None:
    plain = _asking(api, path, max_tokens=8)
    seen = []
    for _ in range(3):  # near-ties of random models may be rounded the other way
        before = _texts(api.ask(plain))
        api.ask(_asking(api, path, **spoken(api, {"choice": ["Zq7 amber"]})))
        after = _texts(api.ask(plain))
        if before == after:
            return
        seen = [before, after]
    must(
        False,
        "A constraint must be gone with its request",
        expected=seen[0],
        seen=seen[1],
    )


@vllm
@both_endpoints
def test_constraints_of_requests_at_the_same_time_keep_apart(api: Api, path: str) -> None:
    names = ["choice", "regex", "grammar", "one choice"]
    plain = _asking(api, path, max_tokens=8)
    requests = [_asking(api, path, **spoken(api, CONSTRAINTS[name].fields)) for name in names]
    answers = api.together(*(lambda r=request: api.ask(r) for request in [*requests, plain]))
    for name, answer in zip(names, answers, strict=False):
        _fits(answer, CONSTRAINTS[name].fits)


#: What no server can keep: `structured_outputs`, by what is wrong with it.
BROKEN: dict[str, dict[str, Any]] = {
    "an invalid regex": {"regex": "[ab"},
    "an invalid grammar": {"grammar": "root ::= ("},
    "a grammar that is a number": {"grammar": 7},
    "no choice": {"choice": []},
    "two constraints": {"choice": ["a"], "regex": "a"},
    "an invalid type": {"json": {"type": "nonsense"}},
    "JSON that is none": {"json": "{"},
    "JSON without a bottom": {"json": '{"items":' * 3000 + "{}" + "}" * 3000},
    "an empty structural tag": {"structural_tag": ""},
}


@vllm
@both_endpoints
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", BROKEN)
def test_an_impossible_constraint_is_refused(api: Api, path: str, name: str, stream: bool) -> None:
    api.ask(_asking(api, path, max_tokens=1))  # or a model without a chat template says so
    request = _asking(api, path, stream=stream, **spoken(api, BROKEN[name]))
    refuse(api, request, late=stream)
    still_well(api)


#: `response_format`, by what is wrong with it.
BROKEN_FORMATS: dict[str, dict[str, Any]] = {
    "no schema": {"response_format": {"type": "json_schema"}},
    "an unknown type": {"response_format": {"type": "yaml"}},
    "no type": {"response_format": {}},
    "a string": {"response_format": "json_object"},
    "an invalid schema": json_schema({"type": "nonsense"}),
}


@vllm
@pytest.mark.chat_model
@pytest.mark.endpoint(CHAT)
@pytest.mark.parametrize("name", BROKEN_FORMATS)
def test_an_impossible_response_format_is_refused(api: Api, name: str) -> None:
    api.ask(_asking(api, "chat", max_tokens=1))
    refuse(api, _asking(api, "chat", **BROKEN_FORMATS[name]))
    still_well(api)


@vllm
@pytest.mark.chat_model
@pytest.mark.endpoint(CHAT)
def test_both_ways_to_ask_for_a_schema_give_the_same(api: Api) -> None:
    schema, seen = SCHEMAS["array with bounds"], []
    for _ in range(3):
        one = api.ask(_asking(api, "chat", **json_schema(schema), **calm(api)))
        other = api.ask(_asking(api, "chat", **spoken(api, {"json": schema}), **calm(api)))
        seen = [_texts(one), _texts(other)]
        if seen[0] == seen[1]:
            return
    must(
        False,
        "response_format and structured_outputs must constrain alike",
        expected=seen[0],
        seen=seen[1],
    )
