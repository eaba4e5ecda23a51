"""POST /v1/completions: several prompts, several answers to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT, completion
from pytest_vllm.suite.facts import eventually, tokens_of, varied

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions (prompt, n)"),
]

VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]
BATCH = [PROMPT, "Hello", "Count from one", "Say unicode", "Once upon a time", "你好"]


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    if seen != expected:
        raise CheckFailed(rule, expected=expected, seen=seen).reproduced_by(answer.curl)


def _said(answer: Answer) -> list[Any]:
    return [(choice["text"], choice["finish_reason"]) for choice in answer.json["choices"]]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({}, id="plain"),
        pytest.param({"max_tokens": 1}, id="one token"),
        pytest.param({"stop": ["e", "o"]}, id="stop"),
        pytest.param({"echo": True}, id="echo"),
    ],
)
def test_a_batch_is_answered_like_each_of_its_prompts(api: Api, more: dict[str, Any]) -> None:
    def check() -> None:
        batch = api.both(varied(api).but(prompt=BATCH, **more))
        single = [api.ask(varied(api, prompt, **more)) for prompt in BATCH]
        expected = [said for answer in single for said in _said(answer)]
        _must_be(
            "A batch must be answered like each prompt, in order", expected, _said(batch), batch
        )
        for name in ("prompt_tokens", "completion_tokens"):
            total = sum(answer.json["usage"][name] for answer in single)
            rule = f"usage.{name} of a batch must be the sum of its prompts'"
            _must_be(rule, total, batch.json["usage"][name], batch)

    eventually(check)


def test_a_batch_of_one_is_answered_like_its_prompt(api: Api) -> None:
    def check() -> None:
        batch, single = api.both(varied(api).but(prompt=[PROMPT])), api.ask(varied(api))
        _must_be("A batch of one must be answered like it", _said(single), _said(batch), batch)

    eventually(check)


def test_equal_prompts_of_a_batch_have_equal_answers(api: Api) -> None:
    def check() -> None:
        answer = api.both(varied(api).but(prompt=["Hello", PROMPT, "Hello", "Hello"]))
        first, _, *others = _said(answer)
        _must_be("Equal prompts must have equal answers", [first] * 2, others, answer)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_of_token_ids_is_answered_like_its_texts(api: Api, size: int) -> None:
    ids = [tokens_of(api, prompt) for prompt in BATCH[:size]]

    def check() -> None:
        texts = api.ask(varied(api).but(prompt=BATCH[:size], return_token_ids=True))
        answer = api.both(varied(api).but(prompt=ids, return_token_ids=True))
        _must_be("Token ids must be answered like their texts", _said(texts), _said(answer), answer)
        seen = [choice["prompt_token_ids"] for choice in answer.json["choices"]]
        _must_be("Each choice must have its own prompt's ids", ids, seen, answer)
        count = answer.json["usage"]["prompt_tokens"]
        _must_be("usage.prompt_tokens must be the sum", sum(map(len, ids)), count, answer)

    eventually(check)


def test_a_large_batch_keeps_its_order(api: Api) -> None:
    prompts = [f"{number} {'x' * (number % 5)}" for number in range(24)]
    answer = api.both(completion(api.model).but(prompt=prompts, max_tokens=2, echo=True))
    seen = [c["text"][: len(p)] for c, p in zip(answer.json["choices"], prompts, strict=True)]
    _must_be("Answers must be in the order of the prompts", prompts, seen, answer)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"stop": ["e", "a"]}], ids=str)
def test_n_answers_are_given(api: Api, n: int, more: dict[str, Any]) -> None:
    answer = api.both(completion(api.model, n=n, **{"temperature": 1, "seed": 3, **more}))
    one = api.ask(completion(api.model, temperature=1, seed=3, max_tokens=1))
    _must_be(
        "usage.prompt_tokens must not depend on n",
        one.json["usage"]["prompt_tokens"],
        answer.json["usage"]["prompt_tokens"],
        answer,
    )


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_n_answers_are_counted_together(api: Api) -> None:
    fields: dict[str, Any] = {
        "n": 3,
        "temperature": 1,
        "seed": 3,
        "return_token_ids": True,
        "logprobs": 0,
    }
    answer = api.both(completion(api.model, **fields))
    count = sum(len(choice["token_ids"]) for choice in answer.json["choices"])
    seen = answer.json["usage"]["completion_tokens"]
    _must_be("usage must count the tokens of all answers", count, seen, answer)


def test_n_answers_are_drawn_independently(api: Api) -> None:
    # 4 answers of 16 tokens at the highest temperature: that all are equal has no chance.
    for _ in range(2):
        answer = api.ask(completion(api.model, n=4, temperature=2).but(seed=...))
        texts = {choice["text"] for choice in answer.json["choices"]}
        if len(texts) > 1:
            return
    raise CheckFailed(
        "The n answers must be drawn independently", seen=sorted(texts)
    ).reproduced_by(answer.curl)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_n_and_a_batch_are_ordered_by_prompt(api: Api) -> None:
    fields = {"n": 2, "temperature": 1, "seed": 3, "max_tokens": 2, "return_token_ids": True}
    answer = api.both(completion(api.model).but(prompt=BATCH[:3], **fields))
    expected = [tokens_of(api, prompt) for prompt in BATCH[:3] for _ in range(2)]
    seen = [choice["prompt_token_ids"] for choice in answer.json["choices"]]
    _must_be("The choices must be ordered by prompt", expected, seen, answer)
