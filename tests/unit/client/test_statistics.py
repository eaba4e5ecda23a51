from __future__ import annotations

import random

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.statistics import FALSE_ALARM, check_draws, chi_square, chi_square_tail

HALF = {"a": 0.5, "b": 0.3, "c": 0.2}


@pytest.mark.parametrize(
    ("statistic", "degrees", "tail"),
    [(3.841459, 1, 0.05), (18.307038, 10, 0.05), (10.0, 10, 0.440493), (50.0, 10, 2.669083e-07)],
)
def test_the_tail_is_that_of_the_tables(statistic: float, degrees: int, tail: float) -> None:
    assert chi_square_tail(statistic, degrees) == pytest.approx(tail, rel=1e-5)


def test_without_degrees_of_freedom_nothing_is_unlikely() -> None:
    assert chi_square_tail(5.0, 0) == 1


def test_rare_values_share_a_cell() -> None:
    _, degrees = chi_square({"a": 100}, {"a": 0.97, "b": 0.01, "c": 0.02})
    assert degrees == 0


def test_honest_draws_pass_again_and_again() -> None:
    dice = random.Random(1)
    for _ in range(200):
        check_draws(dice.choices(list(HALF), list(HALF.values()), k=512), HALF, "it")


@pytest.mark.parametrize("wrong", [(0.7, 0.2, 0.1), (1 / 3, 1 / 3, 1 / 3), (1, 0, 0)])
def test_another_distribution_is_found(wrong: tuple[float, ...]) -> None:
    draws = random.Random(2).choices(list(HALF), wrong, k=512)
    with pytest.raises(CheckFailed, match="drawn as often as their probabilities say"):
        check_draws(draws, HALF, "it")


def test_a_token_that_was_cut_away_is_found() -> None:
    with pytest.raises(CheckFailed, match="only tokens that it leaves must be drawn"):
        check_draws(["a"] * 256 + ["z"], HALF, "top_k")


def test_false_alarms_are_rarer_than_promised() -> None:
    assert FALSE_ALARM <= 1e-6
