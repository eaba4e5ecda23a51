from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.client.checks_structured import begins, is_choice, is_object, matches, validates
from pytest_vllm.client.failure import CheckFailed

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/A"}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"A": {"enum": ["x"]}},
}

GOOD = [
    (is_choice(["a", "b"]), "b"),
    (matches("[ab]{2}"), "ba"),
    (is_object, '{"a": 1}'),
    (validates(SCHEMA), '{"a": "x"}'),
    (begins(["abc"]), "ab"),
]

BAD = [
    (is_choice(["a", "b"]), " b", "choices"),
    (matches("[ab]{2}"), "bax", "regular expression"),
    (is_object, "[1]", "JSON object"),
    (is_object, '{"a": ', "must be JSON"),
    (validates(SCHEMA), '{"a": "y"}', r"\$\.a does not"),
    (validates(SCHEMA), '{"a": "x", "b": 1}', "JSON schema"),
    (begins(["abc"]), "abc", "beginning"),
    (begins(["abc"]), "b", "beginning"),
]


@pytest.mark.parametrize(("fits", "text"), GOOD)
def test_a_text_that_fits_passes(fits: Any, text: str) -> None:
    fits(text)


@pytest.mark.parametrize(("fits", "text", "words"), BAD)
def test_a_text_that_does_not_fit_fails(fits: Any, text: str, words: str) -> None:
    with pytest.raises(CheckFailed, match=words):
        fits(text)
