from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.client.difference import Difference, difference


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": None}, {}),
        ({"a": [1, {"b": "x"}]}, {"a": [1, {"b": "x"}]}),
        ([-0.5], [-0.51]),
        ([0.0], [0]),
        # The last of the best candidates: equally likely, but for rounding.
        ({"top": {"a": -1.0, "b": -2.0}}, {"top": {"a": -1.0, "c": -2.01}}),
    ],
)
def test_these_say_the_same(left: Any, right: Any) -> None:
    assert difference(left, right, tolerance=0.05) is None


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ({"a": 1}, {"a": 2}, Difference("a", 1, 2)),
        ({"a": 1}, {"a": True}, Difference("a", 1, True)),
        ({"a": 1}, {"a": "1"}, Difference("a", 1, "1")),
        ({}, {"a": 0}, Difference("a", None, 0)),
        ([1, 2], [1], Difference("the length of the list", 2, 1)),
        ({"a": [-0.5]}, {"a": [-0.6]}, Difference("a[0]", -0.5, -0.6)),
        ("one two", "one too", Difference("the text (from character 5 on)", "one two", "one too")),
        # Not the least candidate, far from it, or one less: these are no rounding.
        ({"a": -1.0, "b": -2.0}, {"c": -1.0, "b": -2.0}, Difference("a", -1.0, None)),
        ({"a": -1.0, "b": -2.0}, {"a": -1.0, "c": -3.0}, Difference("b", -2.0, None)),
        ({"a": -1.0, "b": -2.0}, {"a": -1.0}, Difference("b", -2.0, None)),
    ],
)
def test_the_first_difference_is_found(left: Any, right: Any, expected: Difference) -> None:
    assert difference(left, right, tolerance=0.05) == expected


def test_a_field_may_be_left_out_at_any_depth() -> None:
    assert difference([{"id": 1, "a": 2}], [{"id": 3, "a": 2}], ignore=["id"]) is None
