from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.client.checks_sampling import (
    best_after_penalties,
    must_differ,
    must_equal,
    widest_gap,
)
from pytest_vllm.client.checks_together import ids_differ, same_answer
from pytest_vllm.client.exchange import Answer
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import completion

TOP = {"a": -0.5, "b": -1.0, "c": -3.0}


def _logprobs(*tokens: str) -> dict[str, Any]:
    return {"tokens": list(tokens), "top_logprobs": [TOP] * len(tokens)}


def test_the_best_tokens_after_penalties_pass() -> None:
    best_after_penalties(_logprobs("a", "a", "a"))
    best_after_penalties(_logprobs("a", "b", "a"), presence=2)
    best_after_penalties(_logprobs("a", "b", "a", "b"), frequency=1)


@pytest.mark.parametrize(
    ("tokens", "penalties"),
    [
        ("aaa", {"presence": 2.0}),
        ("aaa", {"frequency": 0.7}),
        ("aba", {"presence": -2.0}),
        ("abaa", {"frequency": 1.0}),
        ("ab", {}),
    ],
)
def test_a_penalty_without_effect_or_with_another_is_found(
    tokens: str, penalties: dict[str, float]
) -> None:
    with pytest.raises(CheckFailed, match="must be the best one after presence_penalty"):
        best_after_penalties(_logprobs(*tokens), **penalties)


def test_a_near_tie_may_be_broken_either_way() -> None:
    best_after_penalties({"tokens": ["a"], "top_logprobs": [{"a": -1.0, "b": -0.99}]})


def test_equal_and_different_are_told_apart() -> None:
    must_equal("r", 1, 1)
    must_differ("r", [1, 1, 2])
    with pytest.raises(CheckFailed, match="r: expected 1, got 2"):
        must_equal("r", 1, 2)
    with pytest.raises(CheckFailed, match="r: expected different ones"):
        must_differ("r", [["x"], ["x"]])


def test_the_widest_gap_is_found() -> None:
    assert widest_gap([0.0, -1.0, -1.1, -5.0]) == 3


def _answer(**fields: Any) -> Answer:
    answer = Answer(completion("m"), "curl", 200, {}, b"{}")
    answer.__dict__["json"] = fields
    return answer


def test_the_same_answer_may_have_another_id() -> None:
    same_answer(lambda: _answer(id="1", text="x"), lambda: _answer(id="2", text="x"), "It")


def test_a_foreign_answer_is_found() -> None:
    with pytest.raises(CheckFailed, match="It must have the same answer; text"):
        same_answer(lambda: _answer(text="x"), lambda: _answer(text="y"), "It")


def test_a_near_tie_gets_another_try() -> None:
    texts = iter("yx")
    same_answer(lambda: _answer(text="x"), lambda: _answer(text=next(texts)), "It")


def test_an_id_that_comes_twice_is_found() -> None:
    ids_differ([_answer(id="1"), _answer(id="2")])
    with pytest.raises(CheckFailed, match="an id of its own"):
        ids_differ([_answer(id="1"), _answer(id="1")])
