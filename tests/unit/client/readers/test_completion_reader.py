"""Each rule for completions can fail: a healthy answer of vLLM 0.32, broken in one place."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.completion import read

VLLM = Dialect((0, 32))
LOGPROBS = {
    "text_offset": [0, 1, 2],
    "token_logprobs": [-0.9, -0.8, -0.7],
    "tokens": ["j", "k", "l"],
    "top_logprobs": [{"j": -0.9, " a": -1.9}, {"k": -0.8, " b": -1.9}, {"l": -0.7, " c": -1.9}],
}
PROMPT_LOGPROBS = [
    None,
    {
        "80": {"logprob": -9.5, "rank": 448, "decoded_token": "H"},
        "7": {"logprob": -0.9, "rank": 1, "decoded_token": "x"},
    },
    {"113": {"logprob": -0.2, "rank": 1, "decoded_token": "i"}},
]
ASKED = {
    "model": "m",
    "prompt": "Hi",
    "max_tokens": 3,
    "temperature": 0,
    "logprobs": 2,
    "return_token_ids": True,
    "prompt_logprobs": 1,
}
BODY = {
    "id": "cmpl-8bf88b7209296c8e",
    "object": "text_completion",
    "created": int(time.time()),
    "model": "m",
    "choices": [
        {
            "index": 0,
            "text": "jkl",
            "logprobs": LOGPROBS,
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": [114, 115, 116],
            "prompt_token_ids": [0, 80, 113],
            "prompt_logprobs": PROMPT_LOGPROBS,
        }
    ],
    "system_fingerprint": "vllm-0.32.0-e823bb96",
    "usage": {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": None,
    },
}


def answer(
    break_it: Callable[[dict[str, Any], dict[str, Any]], object] = lambda body, choice: None,
    **fields: Any,
) -> Answer:
    body = copy.deepcopy(BODY)
    break_it(body, body["choices"][0])  # type: ignore[index]
    request = Request("POST", "/v1/completions", ASKED).but(**fields)
    headers = {"content-type": "application/json"}
    return Answer(request, "curl", 200, headers, json.dumps(body).encode())


def set_in(*path: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Put the last of the path where the others lead to, within the choice."""
    *steps, name, value = path

    def change(body: dict[str, Any], choice: dict[str, Any]) -> None:
        place: Any = choice
        for step in steps:
            place = place[step]
        place[name] = value

    return change


def usage(**counts: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda body, choice: body["usage"].update(counts)


def test_a_healthy_answer_passes() -> None:
    read(answer(), VLLM)
    read(answer(), Dialect())


def test_a_healthy_answer_without_extras_passes() -> None:
    def bare(body: dict[str, Any], choice: dict[str, Any]) -> None:
        choice.update(logprobs=None, token_ids=None, prompt_token_ids=None, prompt_logprobs=None)

    read(answer(bare, logprobs=..., return_token_ids=..., prompt_logprobs=...), VLLM)


@pytest.mark.parametrize(
    ("break_it", "fields", "rule"),
    [
        (lambda b, c: b.update(id="chatcmpl-8bf88b7209296c8e"), {}, "id must begin"),
        (lambda b, c: b.update(object="completion"), {}, "object must be"),
        (lambda b, c: b.update(model="other"), {}, "`model`"),
        (lambda b, c: b.update(system_fingerprint=7), {}, "system_fingerprint"),
        (lambda b, c: b["choices"].append({**c, "index": 1}), {}, "one choice"),
        (lambda b, c: c.pop("logprobs"), {}, "must have the field logprobs"),
        (lambda b, c: c.pop("stop_reason"), {}, "must have the field stop_reason"),
        (set_in("finish_reason", "eos"), {}, "finish_reason"),
        (set_in("finish_reason", "stop"), {"ignore_eos": True}, "ignore_eos"),
        (set_in("stop_reason", "l"), {}, "stop_reason must be null"),
        (
            lambda b, c: c.update(finish_reason="stop", stop_reason="x"),
            {"stop": ["y"]},
            "stop string or token that was met",
        ),
        (
            lambda b, c: c.update(finish_reason="stop", stop_reason=115),
            {"stop_token_ids": [115]},
            "last of the token_ids",
        ),
        (
            lambda b, c: c.update(finish_reason="stop", stop_reason="k"),
            {"stop": "k", "include_stop_str_in_output": True},
            "text must e",
        ),
        (lambda b, c: None, {"stop": "k"}, "end before the stop string"),
        (lambda b, c: None, {"echo": True, "return_token_ids": ...}, "begin with the prompt"),
        (lambda b, c: None, {"logprobs": ...}, "logprobs must be null"),
        (lambda b, c: None, {"return_token_ids": ...}, "not be there unasked"),
        (lambda b, c: None, {"prompt_logprobs": ...}, "prompt_logprobs must be null"),
        (set_in("logprobs", None), {}, "logprobs must be an object"),
        (set_in("logprobs", "tokens", ["j", "k"]), {}, "one entry for each"),
        (set_in("logprobs", "text_offset", [0, 1, 3]), {}, "text_offset"),
        (set_in("logprobs", "text_offset", [2, 3, 4]), {}, "text_offset"),
        (set_in("logprobs", "token_logprobs", 0, 0.5), {}, "0 or less"),
        (set_in("logprobs", "token_logprobs", 0, None), {}, "0 or less"),
        (set_in("logprobs", "token_logprobs", 0, -0.91), {}, "its own logprob"),
        (set_in("logprobs", "top_logprobs", 0, {"x": -0.9}), {}, "have the chosen token"),
        (set_in("logprobs", "top_logprobs", 0, " a", -0.1), {}, "add up to 1"),
        (set_in("logprobs", "top_logprobs", 0, " a", -0.6), {}, "best of its candidates"),
        (lambda b, c: None, {"logprobs": 3}, "as many candidates"),
        (lambda b, c: None, {"logprobs": 0}, "no more"),
        (lambda b, c: None, {"logprobs": 1}, "no more"),
        (set_in("text", "jk"), {}, "tokens must add up"),
        (set_in("text", "jkm"), {}, "tokens must add up"),
        (set_in("token_ids", None), {}, "token_ids must be a list"),
        (set_in("token_ids", ["114", 115, 116]), {}, "token_ids[0]"),
        (set_in("prompt_token_ids", [0, 80]), {}, "one entry for each token of the prompt"),
        (lambda b, c: None, {"prompt": [0, 80, 114]}, "prompt_token_ids must be the prompt"),
        (lambda b, c: None, {"return_tokens_as_token_ids": True}, "must be the token ids"),
        (set_in("prompt_logprobs", PROMPT_LOGPROBS[1:]), {}, "[0] must be null"),
        (set_in("prompt_logprobs", 1, "80", "rank", 0), {}, "rank"),
        (set_in("prompt_logprobs", 1, "7", "logprob", -12), {}, "higher"),
        (set_in("prompt_logprobs", 1, {"7": PROMPT_LOGPROBS[2]["113"]}), {}, "own token"),  # type: ignore[index]
        (lambda b, c: b.pop("usage"), {}, "usage"),
        (usage(total_tokens=7), {}, "total_tokens"),
        (usage(prompt_tokens=4, total_tokens=7), {}, "number of token ids in the prompt"),
        (usage(completion_tokens=2, total_tokens=5), {}, "number of tokens that came"),
        (usage(completion_tokens=4, total_tokens=7), {}, "max_tokens=3"),
        (usage(prompt_tokens_details={"cached_tokens": 9}), {}, "cached_tokens"),
        (usage(prompt_tokens_details=[1]), {}, "must be an object"),
        (lambda b, c: None, {"max_tokens": 4}, "where finish_reason is length"),
        (set_in("finish_reason", "stop"), {"min_tokens": 4, "max_tokens": 5}, "min_tokens=4"),
        (lambda b, c: None, {"truncate_prompt_tokens": 2}, "truncate_prompt_tokens=2"),
    ],
)
def test_a_broken_answer_is_caught(
    break_it: Callable[[dict[str, Any], dict[str, Any]], object], fields: dict[str, Any], rule: str
) -> None:
    with pytest.raises(CheckFailed) as caught:
        read(answer(break_it, **fields), VLLM)
    assert rule in str(caught.value)


def test_of_equally_likely_tokens_the_chosen_one_and_the_listed_one_may_be_two() -> None:
    def tied(body: dict[str, Any], choice: dict[str, Any]) -> None:
        best = [{"j": -0.9, " a": -0.9}, {"k": -0.8}, {"l": -0.7}]
        choice["logprobs"]["top_logprobs"] = best

    read(answer(tied, logprobs=1), VLLM)


def test_created_may_be_ahead_of_a_date_that_is_written_late() -> None:
    def dated(seconds: float) -> Answer:
        from email.utils import formatdate

        one = answer()
        head = {**one.headers, "date": formatdate(one.json["created"] + seconds, usegmt=True)}
        return Answer(one.request, one.curl, 200, head, one.content)

    read(dated(-10), VLLM)
    for wrong in (-3600, 3600):
        with pytest.raises(CheckFailed, match="`created`"):
            read(dated(wrong), VLLM)
