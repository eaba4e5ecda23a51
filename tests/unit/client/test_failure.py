from __future__ import annotations

import pytest

from pytest_vllm.client.failure import CheckFailed, NoAnswer, Text, show
from pytest_vllm.redaction import redact


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (CheckFailed("It must be so"), "It must be so"),
        (CheckFailed("It must be so", seen=None), "It must be so: got null"),
        (CheckFailed("It must be so", expected=1, seen="1"), 'It must be so: expected 1, got "1"'),
        (CheckFailed("It must be so", seen=Text("nothing")), "It must be so: got nothing"),
        (NoAnswer("It must answer"), "It must answer"),
    ],
)
def test_the_first_line_says_it_all(failure: CheckFailed, expected: str) -> None:
    assert str(failure) == expected


def test_the_curl_lines_follow_each_once() -> None:
    failure = CheckFailed("It must be so").reproduced_by("curl a", "curl b").reproduced_by("curl a")
    assert str(failure) == "It must be so\n  curl a\n  curl b"


def test_it_is_an_assertion_error_with_a_short_name() -> None:
    assert issubclass(NoAnswer, CheckFailed)
    assert issubclass(CheckFailed, AssertionError)
    assert f"{CheckFailed.__module__}.{CheckFailed.__qualname__}" == "builtins.CheckFailed"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        ("中\n", '"中\\n"'),
        ({1: object}, '{"1": "<class \'object\'>"}'),
        ("a" * 300, '"' + "a" * 199 + "… (302 characters)"),
        (Text("a" * 300), "a" * 200 + "… (300 characters)"),
    ],
)
def test_values_are_shown_as_on_the_wire_and_cut(value: object, expected: str) -> None:
    assert show(value) == expected


def test_the_key_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = CheckFailed("Refused", seen="wrong key: s3cret").reproduced_by("curl -H s3cret")
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    assert "s3cret" not in str(failure)
    assert redact("s3cret!") == "$VLLM_API_KEY!"


def test_without_a_key_nothing_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "")
    assert redact("text") == "text"
