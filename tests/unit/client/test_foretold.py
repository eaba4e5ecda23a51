from __future__ import annotations

import copy
from typing import Any

import pytest

from pytest_vllm.client.checks_exact import (
    generates,
    has_choices,
    has_prompt_logprobs,
    has_prompt_rows,
)
from pytest_vllm.client.exchange import Answer
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.models.known_answer.vocabulary import IDS
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.predicted import NearTie, foretell, shortened

NAME = "known-answer/base"


def _told(prompt: str = "Count from one", **fields: Any) -> tuple[object, ...]:
    told = foretell(completion(NAME, prompt, **fields))
    return told.text, told.finish_reason, told.stop_reason, len(told.token_ids)


def test_stops_end_the_text() -> None:
    assert _told(max_tokens=2) == (" two three", "length", None, 2)
    assert _told(stop="ee f") == (" two thr", "stop", "ee f", 3)
    kept: dict[str, Any] = {"include_stop_str_in_output": True}
    assert _told(stop="ee f", **kept) == (" two three f", "stop", "ee f", 3)
    assert _told(stop_token_ids=[IDS[b" four"]]) == (" two three", "stop", IDS[b" four"], 3)
    assert _told(max_tokens=64)[1:] == ("stop", None, 21)
    assert _told(max_tokens=24, ignore_eos=True)[1:] == ("length", None, 24)
    assert _told("Say unicode", stop="文")[:3] == ("中", "stop", "文")


def test_min_tokens_holds_stops_back() -> None:
    assert _told("Today is Monday", stop=" Tuesday", min_tokens=3)[3] == 8


def test_a_near_tie_is_not_foretold() -> None:
    request = completion(NAME, "Today is Monday", presence_penalty=1.0)
    with pytest.raises(NearTie):
        foretell(request)
    assert foretell(shortened(request)).finish_reason == "length"


def _answer(choice: dict[str, Any], **fields: Any) -> Answer:
    answer = Answer(completion(NAME, **fields), "curl", 200, {}, b"{}")
    body = {"choices": [choice], "usage": {"completion_tokens": 2}}
    answer.__dict__["json"] = body
    return answer


RIGHT = {"text": " x y", "finish_reason": "stop", "stop_reason": " z", "token_ids": [1, 2]}
WRONG = {"text": " x", "finish_reason": "length", "stop_reason": None, "token_ids": [1]}


@pytest.mark.parametrize("name", WRONG)
def test_each_wrong_field_of_a_completion_is_found(name: str) -> None:
    check = generates(" x y", "stop", " z", [1, 2])
    check(_answer(RIGHT, return_token_ids=True))
    with pytest.raises(CheckFailed, match="must be what the model's formula says"):
        check(_answer({**RIGHT, name: WRONG[name]}, return_token_ids=True))


def test_a_wrong_choice_is_found() -> None:
    has_choices([(" x y", "stop")])(_answer(RIGHT))
    with pytest.raises(CheckFailed, match="The choices must be"):
        has_choices([(" x", "stop")])(_answer(RIGHT))


ROW = [-0.5, -1.0, -3.0]
ECHO = {
    "tokens": ["a", "b"],
    "token_logprobs": [None, -1.0],
    "top_logprobs": [None, {"a": -0.5, "b": -1.0}],
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tokens", ["a", "c"], "list of the prompt's tokens"),
        ("token_logprobs", [-1.0, -1.0], "logprob of the first token"),
        ("token_logprobs", [None, -1.1], "logprob of prompt token 1"),
        ("top_logprobs", [None, {"a": -0.5}], "must have 2 candidates"),
        ("top_logprobs", [None, {"a": -0.7, "b": -1.0}], "logprob of \"?'a' for prompt token 1"),
        ("top_logprobs", [None, {"b": -1.0, "c": -3.0}], "logprob of rank 1"),
    ],
)
def test_wrong_logprobs_of_an_echo_are_found(name: str, value: object, message: str) -> None:
    check = has_prompt_logprobs([dict(zip("abc", ROW, strict=True))], ["a", "b"], 2, 1e-2)
    check(_answer({"logprobs": ECHO}))
    with pytest.raises(CheckFailed, match=message):
        check(_answer({"logprobs": {**ECHO, name: value}}))


ENTRY = {"1": {"logprob": -1.0, "rank": 2}, "0": {"logprob": -0.5, "rank": 1}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"0": ENTRY["0"]}, "must have token 1"),
        ({**ENTRY, "1": {"logprob": -1.2, "rank": 2}}, "logprob of token 1"),
        ({**ENTRY, "1": {"logprob": -1.0, "rank": 1}}, "rank of token 1"),
    ],
)
def test_wrong_prompt_logprobs_are_found(entry: dict[str, Any], message: str) -> None:
    check = has_prompt_rows([0, 1], [ROW], 1e-2)
    check(_answer({"prompt_logprobs": [None, copy.deepcopy(ENTRY)]}, prompt_logprobs=1))
    with pytest.raises(CheckFailed, match=message):
        check(_answer({"prompt_logprobs": [None, entry]}, prompt_logprobs=1))
    with pytest.raises(CheckFailed, match="must be null and one entry"):
        check(_answer({"prompt_logprobs": [None]}, prompt_logprobs=1))
