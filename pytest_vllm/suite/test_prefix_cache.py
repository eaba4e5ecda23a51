"""Prefix cache and chunked prefill: what was computed before must not change an answer."""

from __future__ import annotations

from functools import partial
from hashlib import shake_256
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.checks import completion_text
from pytest_vllm.client.checks_exact import has_logprobs, is_answer
from pytest_vllm.client.checks_together import same_answer
from pytest_vllm.models.known_answer.samples import long_prompt
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.predicted import expected_answer, tolerance

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

# Alone: vLLM 0.32 on a CPU dies of a seeded request whose prompt is prefilled in two steps
# (`set_offset` of a CPU generator), which a full step beside it brings about.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("vLLM docs, Automatic Prefix Caching"),
]

#: Long enough for two blocks of vLLM's cache on CPUs (128 tokens), short enough for any model.
LONG = 290


def _ids(seed: str, tokens: int) -> list[int]:
    """Token ids that every vocabulary has, mixed by `seed`."""
    return [100 + byte % 160 for byte in shake_256(seed.encode()).digest(tokens)]


@pytest.mark.core
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_long_prompt_has_the_same_answer_again(api: Api, streamed: bool) -> None:
    request = completion(api.model, _ids(f"again {streamed}", LONG), max_tokens=6, logprobs=2)
    ask = api.whole if streamed else api.ask
    same_answer(lambda: ask(request), lambda: ask(request), "A prompt asked again")


@pytest.mark.core
def test_prompts_with_the_same_beginning_have_their_own_answers(api: Api) -> None:
    prefix = _ids("shared", 260)
    requests = [
        completion(api.model, [*prefix, *_ids(f"tail {i}", 10 + i)], max_tokens=6, logprobs=2)
        for i in range(3)
    ]
    first = [api.ask(request) for request in requests]
    for request, cold in zip(requests, first, strict=True):
        same_answer(
            partial(_again, [cold], api, request), partial(api.ask, request), "A shared beginning"
        )


def _again(there: list[Answer], api: Api, request: Request) -> Answer:
    """The answer that is there already; once it was not enough, another."""
    return there.pop() if there else api.ask(request)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_cache_salt_changes_nothing_in_the_answer(api: Api) -> None:
    request = completion(api.model, _ids("salt", LONG), max_tokens=6, logprobs=2)
    for salt in ("one", "two", "one"):
        salted = request.but(cache_salt=salt)
        same_answer(partial(api.ask, request), partial(api.ask, salted), "A cache_salt")


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_prompt_logprobs_are_complete_behind_a_cached_prefix(api: Api) -> None:
    ids = _ids("prompt logprobs", LONG)
    api.ask(completion(api.model, ids, max_tokens=1))
    answer = api.ask(completion(api.model, ids, max_tokens=1, prompt_logprobs=1))
    rows = answer.json["choices"][0]["prompt_logprobs"]
    assert len(rows) == LONG, "prompt_logprobs must have an entry for each token, cached or not"
    assert rows[0] is None, "prompt_logprobs must begin with null"
    missing = [at for at, row in enumerate(rows[1:], 1) if str(ids[at]) not in row]
    assert not missing, f"prompt_logprobs must have the prompt's own tokens: missing at {missing}"


@pytest.mark.core
@pytest.mark.requires("known-answer")
@pytest.mark.parametrize("tokens", [127, 128, 129, 257, 400, 490])
def test_a_long_prompt_has_its_exact_answer_cold_and_warm(api: Api, tokens: int) -> None:
    _exact(api, long_prompt(tokens, seed=tokens), times=2)


@pytest.mark.core
@pytest.mark.requires("known-answer")
def test_the_first_prompt_is_answered_exactly_after_many_others(api: Api) -> None:
    prompts = [long_prompt(300, seed) for seed in range(50, 58)]
    for prompt in [*prompts, prompts[0]]:
        _exact(api, prompt, times=1)


@pytest.mark.core
@pytest.mark.requires("known-answer")
def test_different_long_prompts_at_once_have_their_exact_answers(api: Api) -> None:
    prompts = [long_prompt(300, seed) for seed in range(60, 64)]
    api.together(*[lambda p=p: _exact(api, p, times=1) for p in [*prompts, *prompts]])


def _exact(api: Api, prompt: str, *, times: int) -> None:
    __tracebackhide__ = True
    expected = expected_answer(api.model, prompt, max_tokens=8)
    request = completion(api.model, prompt, max_tokens=8, logprobs=5)
    for _ in range(times):
        api.ask(request).check(
            is_answer(expected, completion_text), has_logprobs(expected, 5, tolerance(api.server))
        )
