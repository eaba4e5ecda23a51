"""Rules for text that was generated under a constraint. Each takes the text and is pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.strict_json import parse_json

__all__ = ["Fits", "begins", "is_choice", "is_object", "matches", "validates"]

#: Raises CheckFailed where a text does not fit.
Fits = Callable[[str], None]


def is_choice(choices: Collection[str]) -> Fits:
    """The text is one of these, and nothing else."""

    def check(text: str) -> None:
        must(
            text in choices,
            "The text must be one of the choices",
            expected=list(choices),
            seen=text,
        )

    return check


def matches(pattern: str) -> Fits:
    """The whole text matches the regular expression."""

    def check(text: str) -> None:
        must(
            re.fullmatch(pattern, text),
            "The whole text must match the regular expression",
            expected=pattern,
            seen=text,
        )

    return check


def is_object(text: str) -> None:
    """The text is a JSON object."""
    value = _parsed(text)
    must(isinstance(value, dict), "The text must be a JSON object", seen=text)


def validates(schema: Mapping[str, Any]) -> Fits:
    """The text is JSON that validates against the schema."""

    def check(text: str) -> None:
        from jsonschema import Draft202012Validator

        value = _parsed(text)
        errors = sorted(Draft202012Validator(schema).iter_errors(value), key=lambda e: e.json_path)
        if errors:
            raise CheckFailed(
                f"The text must follow the JSON schema; {errors[0].json_path} does not",
                expected=Text(errors[0].message),
                seen=text,
            )

    return check


def begins(choices: Collection[str]) -> Fits:
    """The text is the beginning of one of the choices, which max_tokens cut."""

    def check(text: str) -> None:
        must(
            any(choice.startswith(text) and choice != text for choice in choices),
            "A text cut by max_tokens must be the beginning of one of the choices",
            expected=list(choices),
            seen=text,
        )

    return check


def _parsed(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError as error:
        raise CheckFailed(f"The text must be JSON ({error})", seen=text) from None
