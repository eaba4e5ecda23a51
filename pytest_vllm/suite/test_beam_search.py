"""Beam search: the best texts by the sum of their logprobs, best first.

The scores are known exactly: each text's own by the formula, and those of the beams that a
search of this width must keep. Equal scores may come in any order.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer import KnownAnswer, predictor
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.predicted import tolerance

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("vllm", "generation"),
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("vLLM docs: use_beam_search"),
]

LENGTH = 4


def _beams(api: Api, width: int) -> Request:
    # Without the end token all texts are equally long, and no length penalty matters.
    fields = {"use_beam_search": True, "n": width, "max_tokens": LENGTH, "ignore_eos": True}
    more = {"return_token_ids": True, "seed": ...}
    return completion(api.model, "Today is Monday").but(**fields, **more)


def _ids(answer: Answer) -> list[tuple[int, ...]]:
    return [tuple(choice["token_ids"] or ()) for choice in answer.json["choices"]]


@pytest.mark.parametrize("width", [1, 3])
def test_beams_are_as_many_as_asked_for_and_differ(api: Api, width: int) -> None:
    seen = _ids(api.ask(_beams(api, width)))
    must(len({*seen}) == width, "Each beam must be another text", expected=width, seen=len({*seen}))
    must(
        {*map(len, seen)} == {LENGTH},
        "Each beam must have max_tokens tokens where the end token is ignored",
        expected=LENGTH,
        seen=[len(ids) for ids in seen],
    )


@pytest.mark.requires("known-answer")
@pytest.mark.parametrize("width", [2, 4])
def test_beams_are_the_best_texts_best_first(api: Api, width: int) -> None:
    model = predictor(api.model)
    prompt = model.encode("Today is Monday")
    answer = api.ask(_beams(api, width))
    seen = [_score(model, prompt, ids) for ids in _ids(answer)]
    expected = _search(model, prompt, width)
    near = LENGTH * tolerance(api.server)
    answer.check(
        lambda _: must(
            len(seen) == len(expected)
            and all(abs(a - b) <= near for a, b in zip(seen, expected, strict=True)),
            "The beams must be the best texts by the sum of their logprobs, best first",
            expected=[round(score, 3) for score in expected],
            seen=[round(score, 3) for score in seen],
        )
    )


def _score(model: KnownAnswer, prompt: Sequence[int], ids: Sequence[int]) -> float:
    context, score = list(prompt), 0.0
    for token in ids:
        score += model.logprobs(context)[token]
        context.append(token)
    return score


def _search(model: KnownAnswer, prompt: Sequence[int], width: int) -> list[float]:
    """The scores of the beams, best first."""
    beams: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for _ in range(LENGTH):
        longer = [
            (score + logprob, (*ids, token))
            for score, ids in beams
            for token, logprob in enumerate(model.logprobs([*prompt, *ids]))
            if logprob > -math.inf
        ]
        beams = heapq.nlargest(width, longer)
    return [score for score, _ in beams]
