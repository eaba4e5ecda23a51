from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.client import shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.shapes import Kind, Shape, conform, exactly, nullable, one_of, optional

NOW = 1_790_000_000


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (shapes.STRING, ["", "a"], [None, 1, ["a"]]),
        (shapes.NAME, ["a"], ["", None, 1]),
        (shapes.COUNT, [0, 7], [-1, 1.0, True, "1", None]),
        (shapes.NUMBER, [0, -1.5], [True, "1", None]),
        (shapes.TIMESTAMP, [NOW], [0, NOW * 1000, NOW + 0.5, str(NOW), True, None]),
        (exactly("list"), ["list"], ["List", None, ["list"]]),
        (one_of("stop", "length"), ["stop", "length"], ["eos", None, ["stop"], {}]),
        (nullable(shapes.STRING), ["", None], [1]),
        (optional(shapes.STRING), ["", None], [1]),
    ],
)
def test_a_kind_takes_and_refuses(kind: Kind, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not kind.fits(value)] == []
    assert [value for value in bad if kind.fits(value)] == []


SHAPE: Shape = {"id": shapes.NAME, "items": [{"n": optional(shapes.COUNT)}], "more": {}}


@pytest.mark.parametrize(
    "value",
    [
        {"id": "a", "items": [], "more": {}},
        {"id": "a", "items": [{}, {"n": None}, {"n": 1}], "more": {"x": 1}, "unknown": 1},
    ],
)
def test_what_has_the_shape_passes(value: Any) -> None:
    conform(value, SHAPE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"^The answer must be an object: got \[\]$"),
        ({"items": [], "more": {}}, r"^id must be a non-empty string: got nothing: it is missing$"),
        ({"id": "a", "more": {}}, "^items must be there: got nothing"),
        ({"id": "a", "items": None, "more": {}}, "^items must be a list: got null$"),
        ({"id": "a", "items": [{}, 1], "more": {}}, r"^items\[1\] must be an object: got 1$"),
        (
            {"id": "a", "items": [{"n": "x"}], "more": {}},
            r'^items\[0\]\.n must be an integer, 0 or more, or null: got "x"$',
        ),
        ({"id": "a", "items": [], "more": []}, r"^more must be an object: got \[\]$"),
    ],
)
def test_the_first_wrong_field_is_named(value: Any, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        conform(value, SHAPE)


def test_the_path_begins_where_the_caller_says() -> None:
    with pytest.raises(CheckFailed, match=r"^chunk\[3\]\.id must be"):
        conform({}, SHAPE, "chunk[3]")
