"""Many requests at once: each has its own answer, as if it were alone."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_together import ids_differ, same_answer
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.drawing import ONE_TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [pytest.mark.endpoint("POST /v1/completions")]

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven")
WORDS = ("red", "orange", "yellow", "green", "blue", "indigo", "violet", *NUMBERS)

#: One row a request; they differ in everything that could leak into a neighbour.
MIXED: tuple[dict[str, Any], ...] = (
    {},
    {"max_tokens": 3},
    {"stop": ["e", "o"]},
    {"logprobs": 2},
    {"stream": True},
    {"stream": True, "logprobs": 1, "max_tokens": 9},
    {"echo": True},
    {"presence_penalty": 1.5},
    {"frequency_penalty": -1.0, "logprobs": 1},
    {"logit_bias": {"120": 100}, "max_tokens": 4},
    {"max_tokens": 40},
    {"stream": True, "stop": "a"},
    {"echo": True, "logprobs": 1, "max_tokens": 2},
    {"logit_bias": {"121": 100}, "stream": True, "max_tokens": 5},
    {"max_tokens": 1},
    {"prompt": ["red", "green"], "max_tokens": 4},
)

#: More of them on vLLM.
EXTENDED: tuple[dict[str, Any], ...] = (
    {"return_token_ids": True},
    {"return_token_ids": True, "stream": True},
    {"ignore_eos": True, "max_tokens": 30},
    {"min_tokens": 12, "max_tokens": 14},
    {"allowed_token_ids": [110, 111, 112]},
    {"allowed_token_ids": [113], "return_token_ids": True, "max_tokens": 4},
    {"repetition_penalty": 1.9},
    {"prompt_logprobs": 1, "max_tokens": 2},
    {"bad_words": ["two", "a"], "return_token_ids": True},
    {"return_tokens_as_token_ids": True, "logprobs": 3},
    # Seeded and random: one token of prompt only, see `drawing`.
    {"prompt": ONE_TOKEN, "temperature": 1.5, "seed": 7},
    {"prompt": ONE_TOKEN, "temperature": 1.5, "seed": 8, "n": 2},
    {"prompt": ONE_TOKEN, "temperature": 1.5, "seed": 9, "stream": True},
)


def _ask(api: Api, request: Request) -> Answer:
    return api.whole(request) if request.get("stream") else api.ask(request)


def _prompt(place: int) -> str:
    """A prompt of its own for each request, short and long by turns."""
    words = [WORDS[(place * 5 + step * (place + 1)) % len(WORDS)] for step in range(40)]
    return f"{place} " + " ".join(words[: (3, 12, 40)[place % 3]])


def _are_as_alone(api: Api, rows: tuple[dict[str, Any], ...], first: int) -> None:
    __tracebackhide__ = True
    requests = [
        completion(api.model, _prompt(first + place), **{"max_tokens": 8, **row})
        if "prompt" not in row
        else completion(api.model).but(**{"max_tokens": 8, **row})
        for place, row in enumerate(rows)
    ]
    answers = api.together(*[lambda r=r: _ask(api, r) for r in requests])
    ids_differ(answers)
    for request, answer in zip(requests, answers, strict=True):
        same_answer(partial(_ask, api, request), _first(api, request, answer), "One among others")


def _first(api: Api, request: Request, answer: Answer) -> Callable[[], Answer]:
    """Give the answer that is there already, and ask only when that was not enough."""
    there = [answer]
    return lambda: there.pop() if there else _ask(api, request)


@pytest.mark.core
def test_requests_at_once_are_answered_as_if_alone(api: Api) -> None:
    _are_as_alone(api, MIXED, 0)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_vllm_parameters_do_not_leak_into_other_requests(api: Api) -> None:
    _are_as_alone(api, EXTENDED, len(MIXED))


@pytest.mark.core
def test_a_prompt_streamed_and_whole_at_once_has_one_answer(api: Api) -> None:
    request = completion(api.model, _prompt(31), logprobs=1)
    stream = request.but(stream=True, stream_options={"include_usage": True})

    def pair() -> list[Answer]:
        return api.together(lambda: api.ask(request), lambda: api.whole(stream))

    # A fresh pair for each try: both always run at the same time.
    pairs: list[Answer] = []

    def left() -> Answer:
        pairs[:] = pair()
        return pairs[0]

    same_answer(left, lambda: pairs[1], "A prompt streamed and whole at the same time")


@pytest.mark.core
def test_the_same_request_many_times_at_once_has_one_answer_and_many_ids(api: Api) -> None:
    request = completion(api.model, _prompt(32), logprobs=1)
    answers = api.together(*[lambda: api.ask(request)] * 8)
    ids_differ(answers)
    for answer in answers[1:]:
        same_answer(partial(_ask, api, request), _first(api, request, answer), "One of many")
