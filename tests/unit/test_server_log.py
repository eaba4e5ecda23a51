"""Errors in a server's log."""

from __future__ import annotations

from pytest_vllm.suite.server_log import errors_in

READY = "(APIServer pid=1) INFO:     Application startup complete.\n"
CRASH = """\
(EngineCore pid=2) ERROR 11-24 15:47:06 [core.py:75] Traceback (most recent call last):
(EngineCore pid=2) ERROR 11-24 15:47:06 [core.py:75] RuntimeError: out of memory
"""
REFUSAL = """\
(APIServer pid=1) ERROR 11-24 15:47:06 [api_router.py:75] Traceback (most recent call last):
(APIServer pid=1) ERROR 11-24 15:47:06 [api_router.py:75] vllm.exceptions.VLLMValidationError: no
"""


def test_a_log_without_errors_has_none() -> None:
    assert errors_in(READY + "(APIServer pid=1) INFO 11-24 [x.py:1] no ERRORS here\n") == []


def test_an_error_counts_once_and_is_named_by_its_last_line() -> None:
    found = errors_in(READY + CRASH)
    assert len(found) == 1
    assert found[0].endswith("RuntimeError: out of memory")


def test_errors_of_the_start_belong_to_the_start() -> None:
    assert errors_in(CRASH + READY) == []


def test_what_the_api_server_logs_of_wrong_requests_is_no_error() -> None:
    assert errors_in(READY + REFUSAL) == []
    assert len(errors_in(READY + REFUSAL + CRASH)) == 1


def test_an_error_of_a_worker_counts() -> None:
    assert len(errors_in(READY + CRASH.replace("EngineCore", "Worker_TP1"))) == 1
