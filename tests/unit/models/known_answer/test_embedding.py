from __future__ import annotations

import math

import pytest

from pytest_vllm.models.known_answer import geometry, predictor
from pytest_vllm.models.known_answer.embedding import embedding
from pytest_vllm.models.known_answer.vocabulary import TOKENS


@pytest.mark.parametrize("name", ["known-answer/base", "known-answer/context"])
def test_an_embedding_has_length_one(name: str) -> None:
    found = embedding(predictor(name), [0, 5, 9])
    assert math.fsum(number * number for number in found) == pytest.approx(1)


def test_it_tells_the_last_token_and_the_constants() -> None:
    found = embedding(predictor("known-answer/base"), [0, 5, 9])
    places = {at for at, number in enumerate(found) if number}
    constants = range(len(TOKENS), len(TOKENS) + len(geometry.CONSTANTS))
    assert places == {9, *constants}
    assert found[9] == pytest.approx(1 / 32)


def test_with_memory_it_tells_the_share_of_each_token() -> None:
    found = embedding(predictor("known-answer/context"), [0, 5, 5, 9])
    assert found[geometry.MEAN + 5] == pytest.approx(2 * found[geometry.MEAN + 9])
