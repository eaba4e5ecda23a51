from __future__ import annotations

import math
from typing import Any

import pytest

from pytest_vllm.client.sampling import Sampling, distribution, processed

LOGITS = {1: 2.0, 2: 1.0, 3: 0.0, 4: -1.0}


@pytest.mark.parametrize(
    ("fields", "output", "expected"),
    [
        ({}, [], {1: 2.0, 2: 1.0, 3: 0.0, 4: -1.0}),
        ({"allowed_token_ids": [2, 3]}, [], {2: 1.0, 3: 0.0}),
        ({"bad_words": [[1], [3, 2]]}, [3], {3: 0.0, 4: -1.0}),
        ({"bad_words": [[3, 2]]}, [4], {1: 2.0, 2: 1.0, 3: 0.0, 4: -1.0}),
        ({"min_tokens": 1, "ends": [1]}, [], {2: 1.0, 3: 0.0, 4: -1.0}),
        ({"min_tokens": 1, "ends": [1]}, [2], {1: 2.0, 2: 1.0, 3: 0.0, 4: -1.0}),
        ({"logit_bias": {2: 500, 3: -1}}, [], {1: 2.0, 2: 101.0, 3: -1.0, 4: -1.0}),
        ({"presence_penalty": 0.5}, [1, 1, 4], {1: 1.5, 2: 1.0, 3: 0.0, 4: -1.5}),
        ({"frequency_penalty": 0.5}, [1, 1, 4], {1: 1.0, 2: 1.0, 3: 0.0, 4: -1.5}),
        ({"repetition_penalty": 2.0}, [1, 4], {1: 1.0, 2: 0.5, 3: 0.0, 4: -2.0}),
    ],
)
def test_logits_are_processed(
    fields: dict[str, Any], output: list[int], expected: dict[int, float]
) -> None:
    # The prompt is token 2: only repetition_penalty sees it.
    assert processed(LOGITS, Sampling(**fields), [2], output) == expected


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({}, [1, 2, 3, 4]),
        ({"top_k": 2}, [1, 2]),
        ({"top_p": 0.6}, [1]),
        ({"top_p": 0.7}, [1, 2]),
        ({"top_p": 0.6, "temperature": 2.0}, [1, 2]),
        ({"min_p": 0.3}, [1, 2]),
        ({"min_p": 0.3, "temperature": 2.0}, [1, 2, 3]),
        ({"top_k": 2, "top_p": 0.72}, [1]),
        ({"min_p": 1.0}, [1]),
    ],
)
def test_tokens_are_cut_away(fields: dict[str, Any], kept: list[int]) -> None:
    found = distribution(LOGITS, Sampling(**fields))
    assert list(found) == kept
    assert math.fsum(found.values()) == pytest.approx(1)


def test_temperature_divides() -> None:
    found = distribution(LOGITS, Sampling(temperature=0.5))
    assert found[1] / found[2] == pytest.approx(math.exp(2))


def test_tokens_as_large_as_the_last_of_top_k_stay() -> None:
    assert list(distribution({1: 1.0, 2: 0.0, 3: 0.0}, Sampling(top_k=2))) == [1, 2, 3]


def test_a_body_says_the_parameters() -> None:
    body = {"model": "m", "top_k": 3, "logit_bias": {"7": 1}, "bad_words": ["x"]}
    assert Sampling.of(body, bad_words=[[9]]) == Sampling(
        top_k=3, logit_bias={7: 1}, bad_words=[[9]]
    )
