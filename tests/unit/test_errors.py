from __future__ import annotations

import pickle

import pytest

from pytest_vllm import errors

ALL = [value for value in vars(errors).values() if isinstance(value, type)]


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_the_way_to_another_process(kind: type[errors.VLLMTestError]) -> None:
    error = pickle.loads(pickle.dumps(kind("what happened\nwhat to do")))
    assert (type(error), str(error)) == (kind, "what happened\nwhat to do")


@pytest.mark.parametrize(
    ("report", "line"),
    [
        ("it ended: exit code 1\n  evidence\n  remedy", "it ended: exit code 1"),
        ("x" * 120, "x" * 120),
        ("x" * 121 + "\nmore", "x" * 117 + "..."),
    ],
    ids=["report", "just short enough", "long"],
)
def test_a_report_that_was_shown_is_repeated_in_one_line(report: str, line: str) -> None:
    assert errors.in_one_line(report) == f"{line} (see the first error of this server)"


@pytest.mark.parametrize("kind", ALL)
def test_every_error_is_of_one_family(kind: type) -> None:
    assert issubclass(kind, errors.VLLMTestError)


@pytest.mark.parametrize("kind", ALL)
def test_the_tree_in_the_docstring_is_complete(kind: type) -> None:
    assert kind.__name__ in str(errors.__doc__)
