"""Sampling on any model: what must hold whatever the model says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_sampling import (
    best_after_penalties,
    must_differ,
    must_equal,
    texts_of,
)
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.drawing import ONE_TOKEN, top_candidates
from pytest_vllm.suite.letters import ban_letters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Request

pytestmark = [
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions"),
]

WILD = {"temperature": 2.0, "top_p": 1.0, "seed": ...}
VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]


def _eventually(check: Callable[[], None], times: int = 3) -> None:
    """Near-ties may be rounded either way: a rule of two runs gets more than one try."""
    __tracebackhide__ = True
    for last in range(times):
        try:
            check()
        except CheckFailed:
            if last == times - 1:
                raise
        else:
            return


def _same(api: Api, rule: str, a: Request, b: Request) -> None:
    __tracebackhide__ = True

    def check() -> None:
        left, right = api.ask(a), api.ask(b)
        right.check(lambda r: must_equal(rule, texts_of(left.json), texts_of(r.json)))

    _eventually(check)


@pytest.mark.core
def test_temperature_0_repeats_itself(api: Api) -> None:
    request = completion(api.model)
    _same(api, "Temperature 0 must give the same text again", request, request)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"top_p": 1e-6}, marks=pytest.mark.core),
        pytest.param({"top_k": 1}, marks=VLLM),
        pytest.param({"min_p": 1.0}, marks=VLLM),
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_truncation_to_the_best_token_is_greedy(api: Api, fields: dict[str, Any]) -> None:
    wild = completion(api.model, **{**WILD, **fields}).but(seed=...)
    rule = f"With {next(iter(fields))} that leaves one token, the text must be the greedy one"
    _same(api, rule, completion(api.model), wild)


def _varies(rule: str, texts: Iterable[object]) -> None:
    must_differ(rule, list(texts))


@pytest.mark.core
def test_a_high_temperature_varies_and_requests_without_seed_differ(api: Api) -> None:
    wild = completion(api.model).but(**WILD)
    _varies(
        "At temperature 2 and without a seed, five answers must not all be the same",
        (texts_of(api.ask(wild).json) for _ in range(5)),
    )


@pytest.mark.core
def test_the_choices_of_n_differ(api: Api) -> None:
    answer = api.ask(completion(api.model).but(**WILD, n=4))
    answer.check(lambda a: _varies("The choices of n must be drawn each alone", texts_of(a.json)))


@pytest.mark.core
def test_without_a_temperature_answers_are_drawn(api: Api) -> None:
    request = completion(api.model, max_tokens=24).but(temperature=..., seed=..., n=4)
    answers = [api.ask(request) for _ in range(2)]
    texts = [text for answer in answers for text in texts_of(answer.json)]
    if api.has("known-answer"):  # a real model's generation_config may make it greedy
        _varies("Without a temperature, it must be 1: eight answers must differ", texts)


# Seeded and random: one token of prompt only, see `drawing`.


def _seeded(api: Api, seed: int, **more: Any) -> Request:
    return completion(api.model, ONE_TOKEN).but(**{**WILD, "seed": seed, **more})


@pytest.mark.optional
@pytest.mark.parametrize("seed", [1, 0, 2**31 + 7])
def test_the_same_seed_draws_the_same_text_again_and_streamed(api: Api, seed: int) -> None:
    request = _seeded(api, seed)
    _same(api, "The same seed must give the same text", request, request)
    _eventually(lambda: _ignore(api.both(request)))


def _ignore(_: object) -> None:
    return None


@pytest.mark.optional
def test_different_seeds_draw_different_texts(api: Api) -> None:
    _varies(
        "Different seeds must give different texts",
        (texts_of(api.ask(_seeded(api, seed)).json) for seed in range(5, 9)),
    )


@pytest.mark.optional
def test_the_same_seed_draws_the_same_choices_of_n_which_differ(api: Api) -> None:
    request = _seeded(api, 11, n=3)
    _same(api, "The same seed must give the same choices of n", request, request)
    api.ask(request).check(
        lambda a: _varies("With a seed, the choices of n must still differ", texts_of(a.json))
    )


@pytest.mark.optional
def test_a_seed_is_not_left_over_for_the_next_request(api: Api) -> None:
    api.ask(_seeded(api, 3))
    wild = completion(api.model, ONE_TOKEN).but(**WILD)
    _varies(
        "Requests without a seed must differ, whatever seed came before",
        (texts_of(api.ask(wild).json) for _ in range(5)),
    )


@pytest.mark.core
@pytest.mark.parametrize(
    "fields",
    [{f"{kind}_penalty": value} for kind in ("presence", "frequency") for value in (2, 0.7, -2)],
    ids=lambda fields: "{}={}".format(*next(iter(fields.items()))),
)
def test_each_token_is_the_best_one_after_the_penalties(api: Api, fields: dict[str, Any]) -> None:
    named = {"return_tokens_as_token_ids": True} if api.has("vllm") else {}
    prompt = "one two three one two three one two"
    answer = api.ask(completion(api.model, prompt, logprobs=5, max_tokens=20, **fields, **named))
    penalties = {name.removesuffix("_penalty"): value for name, value in fields.items()}
    answer.check(lambda a: best_after_penalties(a.json["choices"][0]["logprobs"], **penalties))


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_repetition_penalty_counts_the_prompt_and_presence_does_not(api: Api) -> None:
    plain = completion(api.model, ONE_TOKEN, max_tokens=24, ignore_eos=True, return_token_ids=True)
    ids = api.ask(plain).json["choices"][0]["token_ids"]
    at = next((i for i, token in enumerate(ids) if token in [*ONE_TOKEN, *ids[:i]]), None)
    if at is None:
        api.note("this model repeats no token within 24: nothing to penalise")
        return
    # The next token of this prompt is one that the prompt has.
    request = plain.but(prompt=[*ONE_TOKEN, *ids[:at]], max_tokens=1)

    def first(**fields: Any) -> list[int]:
        return list(api.ask(request.but(**fields)).json["choices"][0]["token_ids"])

    def check() -> None:
        best = first()
        for name in ("presence_penalty", "frequency_penalty"):
            must_equal(f"{name} must not count the prompt", best, first(**{name: 2.0}))
        if best == ids[at : at + 1]:
            must_differ(
                "A huge repetition_penalty must keep a token of the prompt from coming again",
                [best, first(repetition_penalty=1e6)],
            )

    _eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("rank", [0, 1, 7, 19])
def test_logit_bias_forces_any_token(api: Api, rank: int) -> None:
    token = list(top_candidates(api))[rank]
    request = completion(api.model, ONE_TOKEN, max_tokens=3, ignore_eos=True)
    answer = api.both(request.but(logit_bias={str(token): 100}, return_token_ids=True))
    answer.check(
        lambda a: must_equal(
            "logit_bias +100 must force the token",
            [token] * 3,
            a.json["choices"][0]["token_ids"],
        )
    )


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("means", ["logit_bias", "allowed_token_ids", "stop_token_ids"])
def test_the_best_tokens_can_be_forbidden(api: Api, means: str) -> None:
    ranked = list(top_candidates(api))
    choices: dict[str, dict[str, Any]] = {
        "logit_bias": {"logit_bias": {str(token): -100 for token in ranked[:5]}},
        "allowed_token_ids": {"allowed_token_ids": ranked[5:]},
        "stop_token_ids": {"stop_token_ids": ranked[:5], "min_tokens": 1},
    }
    fields = choices[means]
    request = completion(api.model, ONE_TOKEN, max_tokens=1, return_token_ids=True)

    def check(a: Any) -> None:
        seen = a.json["choices"][0]["token_ids"][0]
        if seen in ranked[:5]:
            raise CheckFailed(f"{means} must keep the five best tokens away", seen=seen)
        if means == "allowed_token_ids" and seen not in ranked[5:]:
            raise CheckFailed("Only allowed_token_ids must come", expected=ranked[5:], seen=seen)

    api.ask(request.but(**fields)).check(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_stop_token_ends_the_answer_unless_min_tokens_forbids_it(api: Api) -> None:
    best = next(iter(top_candidates(api)))
    request = completion(api.model, ONE_TOKEN, max_tokens=4, ignore_eos=True, return_token_ids=True)
    stopping = request.but(stop_token_ids=[best])

    def check() -> None:
        choice = api.ask(stopping).json["choices"][0]
        seen = (choice["finish_reason"], choice["stop_reason"], choice["token_ids"])
        must_equal("A stop token must end the answer", ("stop", best, [best]), seen)
        ids = api.ask(stopping.but(min_tokens=4)).json["choices"][0]["token_ids"]
        must_equal("min_tokens must hold the stop token back", False, best in ids[:-1])
        must_equal("min_tokens must be reached", 4, len(ids))

    _eventually(check)


#: Seeds of which a server might read a part only.
ALIKE = {"8 bits": (5, 5 + 2**8), "16 bits": (5, 5 + 2**16), "no sign": (7, -7)}


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("part", ALIKE)
def test_all_of_a_seed_counts(api: Api, part: str) -> None:
    texts = [texts_of(api.ask(_seeded(api, seed, max_tokens=24)).json) for seed in ALIKE[part]]
    must_differ("Seeds that differ in a part only must give different texts", texts)


#: What is told more, or stops nothing: a draw must not change with it.
SILENT: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": 1},
    "no candidates": {"logprobs": 0},
    "prompt_logprobs": {"prompt_logprobs": 0},
    "token ids": {"return_token_ids": True},
    "a stop that never comes": {"stop": ["\u2603 never"]},
    "a user": {"user": "ada"},
    "a batch of one": {"prompt": [ONE_TOKEN]},
    "one choice": {"n": 1},
    "a cache salt": {"cache_salt": "salt"},
}


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("name", SILENT)
def test_a_draw_is_the_same_whatever_else_is_asked_for(api: Api, name: str) -> None:
    request = _seeded(api, 12, max_tokens=12, top_k=40, min_p=1e-3).but(
        temperature=1.7,
        top_p=0.97,
        presence_penalty=0.4,
        frequency_penalty=0.2,
        repetition_penalty=1.05,
        logit_bias={"120": 1.5},
    )
    rule = f"A seeded draw must be the same with {name}"
    _same(api, rule, request, request.but(**SILENT[name]))
    _eventually(lambda: _ignore(api.both(request.but(**SILENT[name]))))


#: How the token with the number 0 is asked for: a server may take it for nothing.
ZERO: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": {"0": 100}},
    "allowed_token_ids": {"allowed_token_ids": [0]},
    "stop_token_ids": {"logit_bias": {"0": 100}, "stop_token_ids": [0]},
}


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("means", ZERO)
def test_token_0_is_a_token_like_others(api: Api, means: str) -> None:
    request = completion(api.model, ONE_TOKEN, max_tokens=3, ignore_eos=True)
    answer = api.both(request.but(return_token_ids=True, **ZERO[means]))
    expected = [0] if means == "stop_token_ids" else [0] * 3
    seen = answer.json["choices"][0]["token_ids"]
    answer.check(lambda _: must_equal(f"{means} must reach token 0", expected, seen))


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.requires("tokenize")
def test_bad_words_do_not_come(api: Api) -> None:
    ban_letters(api, completion(api.model, "Say a letter"))


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_repetition_penalty_divides_the_logit_once(api: Api) -> None:
    """Where a token of the prompt and another change places tells its logit, divided by it."""
    repeated = ONE_TOKEN[0]
    other = next(token for token in top_candidates(api) if token != repeated)
    request = completion(api.model, [repeated] * 2, max_tokens=1, return_token_ids=True).but(
        allowed_token_ids=[repeated, other]
    )

    def crossing(penalty: float) -> float:
        """The bias from which on the other token wins over the repeated one."""
        low, high = -100.0, 100.0
        while high - low > _EXACT:
            middle = (low + high) / 2
            bias = {str(repeated): 50, str(other): middle}
            answer = api.ask(request.but(logit_bias=bias, repetition_penalty=penalty))
            won = answer.json["choices"][0]["token_ids"] == [other]
            low, high = (low, middle) if won else (middle, high)
        return low

    # crossing(p) = logit / p - rest: two of them tell both, and so all others.
    first, half = crossing(1.0), crossing(2.0)
    logit = 2 * (first - half)
    must_equal("repetition_penalty must lower a logit above 0", True, logit > 1)
    for penalty in (1.25, 0.8):
        expected = first - logit + logit / penalty
        gap = abs(crossing(penalty) - expected)
        near = 4 * _EXACT / penalty
        must_equal(f"repetition_penalty={penalty} must divide the logit by it", True, gap < near)


_EXACT = 0.1
