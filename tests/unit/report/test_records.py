from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vllm.report.records import ATTRIBUTE, VERDICTS, Record, Records
from pytest_vllm.report.summary import _WORDS

PASSED = Record("test_it", "m", "core", "POST /v1/completions", "passed", duration_s=0.25)


def report(record: Record | None, when: str = "call") -> Any:
    """pytest's report of a phase, with the record on it."""
    return SimpleNamespace(when=when, **({ATTRIBUTE: record.as_dict()} if record else {}))


def collect(*reports: Any) -> list[Record]:
    records = Records()
    for each in reports:
        records.pytest_runtest_logreport(each)
    return records.all()


def test_a_record_travels_as_builtin_types() -> None:
    assert Record(**json.loads(json.dumps(PASSED.as_dict()))) == PASSED


def test_reports_without_a_record_are_somebody_elses() -> None:
    assert collect(report(None, "setup"), report(PASSED), report(None, "teardown")) == [PASSED]


def test_records_come_in_the_order_in_which_the_tests_ended() -> None:
    other = replace(PASSED, id="test_other")
    assert collect(report(other), report(PASSED)) == [other, PASSED]


def test_a_test_that_is_run_again_counts_once_and_as_it_ended() -> None:
    failed = replace(PASSED, verdict="failed", message="no")
    assert collect(report(failed), report(PASSED)) == [PASSED]


@pytest.mark.parametrize(
    ("first", "message"), [("", "no space"), ("wrong text", "wrong text; then no space")]
)
def test_an_error_of_the_teardown_makes_it_an_error_and_keeps_the_first_message(
    first: str, message: str
) -> None:
    before = replace(PASSED, message=first)
    after = replace(PASSED, verdict="error", message="no space", duration_s=0.0)
    (record,) = collect(report(before), report(after, "teardown"))
    assert record == replace(PASSED, verdict="error", message=message)


def test_an_error_of_the_setup_is_a_record_of_its_own() -> None:
    error = replace(PASSED, verdict="error")
    assert collect(report(error, "setup")) == [error]


def test_the_records_of_a_model_are_found_by_its_name() -> None:
    records = Records()
    local = replace(PASSED, id="test_local", model="mine")
    for record in (PASSED, local):
        records.pytest_runtest_logreport(report(record))
    assert records.of("mine") == [local]


def test_every_verdict_has_a_word_in_the_summary() -> None:
    assert set(VERDICTS) == set(_WORDS)
