"""Sampling: which tokens may be drawn, and how often, against the exact distribution.

On any vLLM model: its own twenty best tokens are allowed and no others, so that their served
logprobs and the parameters say all. On a known-answer model the formula says it.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_sampling import widest_gap
from pytest_vllm.client.sampling import Sampling, distribution
from pytest_vllm.client.statistics import check_draws
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.suite.drawing import NEUTRAL, ONE_TOKEN, draw, top_candidates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("vllm"),
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("vLLM docs, Sampling Parameters; v1/sample/sampler.py"),
]

DRAWS = 512

#: Parameters, as functions of the candidates where a cut must not fall on a near-tie.
ROWS: dict[str, dict[str, Any]] = {
    "temperature=1": {},
    "temperature=0.5": {"temperature": 0.5},
    "temperature=2": {"temperature": 2.0},
    "top_k=1": {"top_k": 1, "temperature": 2.0},
    "top_k": {"top_k": "cut", "temperature": 1.5},
    "top_p": {"top_p": "cut"},
    "top_p after temperature": {"top_p": "cut", "temperature": 2.0},
    "min_p": {"min_p": "cut"},
    "min_p after temperature": {"min_p": "cut", "temperature": 2.0},
    "min_p=1": {"min_p": 1.0, "temperature": 2.0},
    "logit_bias": {"logit_bias": "second"},
    "logit_bias and top_k": {"logit_bias": "second", "top_k": 1},
    "temperature=2 with logprobs": {"temperature": 2.0, "logprobs": 0},
}


def _fields(row: Mapping[str, Any], logits: Mapping[int, float]) -> dict[str, Any]:
    """The row with its cuts put between the two candidates that are farthest apart."""
    fields = dict(row)
    temperature = fields.get("temperature", 1.0)
    ranked = sorted(logits.values(), reverse=True)
    k = widest_gap(ranked, first=2)
    likely = sorted(distribution(logits, Sampling(temperature=temperature)).values(), reverse=True)
    if fields.get("top_k") == "cut":
        fields["top_k"] = k
    if fields.get("top_p") == "cut":
        sums = [0.0, *accumulate(likely)]
        at = max(range(1, 8), key=lambda i: likely[i])
        fields["top_p"] = (sums[at] + sums[at + 1]) / 2
    if fields.get("min_p") == "cut":
        fields["min_p"] = math.sqrt(likely[k - 1] * likely[k]) / likely[0]
    if fields.get("logit_bias") == "second":
        second = sorted(logits, key=lambda token: -logits[token])[1]
        fields["logit_bias"] = {str(second): ranked[0] - ranked[1] + 1.0}
    return fields


@pytest.mark.parametrize("name", ROWS)
def test_tokens_are_drawn_as_the_parameters_say(api: Api, name: str) -> None:
    logits = top_candidates(api)
    fields = {**_fields(ROWS[name], logits), "allowed_token_ids": list(logits)}
    expected = distribution(logits, Sampling.of({**NEUTRAL, **fields}))
    check_draws(draw(api, DRAWS, **fields), expected, name)


@pytest.mark.requires("known-answer")
@pytest.mark.parametrize("name", ROWS)
def test_tokens_are_drawn_as_the_formula_says(api: Api, name: str) -> None:
    logits = dict(enumerate(predictor(api.model).logits(ONE_TOKEN)))
    fields = _fields(ROWS[name], logits)
    expected = distribution(logits, Sampling.of({**NEUTRAL, **fields}), ONE_TOKEN)
    check_draws(draw(api, DRAWS, **fields), expected, name)


def test_only_allowed_tokens_are_drawn(api: Api) -> None:
    allowed = list(top_candidates(api))[3:7]
    logits = {token: top_candidates(api)[token] for token in allowed}
    expected = distribution(logits, Sampling(temperature=2.0))
    draws = draw(api, DRAWS, allowed_token_ids=allowed, temperature=2.0)
    check_draws(draws, expected, "allowed_token_ids")
