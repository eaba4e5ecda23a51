"""Known-answer models: logprobs of the answer and of the prompt, to the digit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_exact import (
    Expected,
    Position,
    has_logprobs,
    has_prompt_logprobs,
    has_prompt_rows,
)
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.vocabulary import IDS
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.predicted import candidates, foretell, prompt_ids, tolerance

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.requires("known-answer"),
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference: logprobs, echo"),
]

PROMPT = "The planets: Mercury"
FRIDAY = IDS[b" Friday"]


def _raw(request: Request) -> Expected:
    """The answer with the logprobs of the model itself, whatever the parameters do after it."""
    model, prompt, told = predictor(request.get("model")), prompt_ids(request), foretell(request)
    positions = []
    for at, token in enumerate(told.token_ids):
        text = model.decode([token], skip_special_tokens=False)
        positions.append(Position(text, candidates(model, [*prompt, *told.token_ids[:at]])))
    return Expected(told.text, told.finish_reason, len(prompt), tuple(positions))


@pytest.mark.core
@pytest.mark.parametrize("top", [1, 2, 5])
def test_top_logprobs_are_the_predicted_ones(api: Api, top: int) -> None:
    _has_raw_logprobs(api, completion(api.model, PROMPT, logprobs=top, max_tokens=12), top)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_twenty_top_logprobs_are_the_predicted_ones(api: Api) -> None:
    # Behind the fifth, a model with memory may be off by more than its tolerance.
    if predictor(api.model).memory is not None:
        return _has_raw_logprobs(api, completion(api.model, PROMPT, logprobs=5, max_tokens=30), 5)
    return _has_raw_logprobs(api, completion(api.model, PROMPT, logprobs=20, max_tokens=12), 20)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM docs, --logprobs-mode: raw_logprobs is the default")
@pytest.mark.parametrize(
    "fields",
    [
        {"presence_penalty": 1.9},
        {"frequency_penalty": 1.9},
        {"repetition_penalty": 1.7},
        {"logit_bias": {str(FRIDAY): 30}},
        {"bad_words": ["Venus"]},
        {"min_tokens": 10},
        {"stop": " Saturn"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_logprobs_are_those_of_the_model_before_any_parameter(
    api: Api, fields: dict[str, Any]
) -> None:
    request = completion(api.model, PROMPT, logprobs=5, max_tokens=12, **fields)
    _has_raw_logprobs(api, request, 5)


def _has_raw_logprobs(api: Api, request: Request, top: int) -> None:
    __tracebackhide__ = True
    expected = _raw(request)
    api.both(request).check(has_logprobs(expected, top, tolerance(api.server)))


def _prompt_check(api: Api, prompt: str, top: int) -> Callable[[Answer], None]:
    model = predictor(api.model)
    ids = model.encode(prompt)
    tokens = [model.decode([i], skip_special_tokens=False) for i in ids]
    known = [candidates(model, ids[:at]) for at in range(1, len(ids))]
    return has_prompt_logprobs(known, tokens, top, tolerance(api.server))


@pytest.mark.core
@pytest.mark.parametrize("max_tokens", [0, 1, 4])
def test_echoed_prompts_have_their_exact_logprobs(api: Api, max_tokens: int) -> None:
    request = completion(api.model, PROMPT, echo=True, logprobs=3, max_tokens=max_tokens)
    api.ask(request).check(_prompt_check(api, PROMPT, 3))


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("top", [1, 5])
def test_prompt_logprobs_are_the_predicted_ones(api: Api, top: int) -> None:
    request = completion(api.model, PROMPT, prompt_logprobs=top, max_tokens=1)
    model, ids = predictor(api.model), prompt_ids(request)
    rows = [model.logprobs(ids[:at]) for at in range(1, len(ids))]
    api.ask(request).check(has_prompt_rows(ids, rows, tolerance(api.server)))
