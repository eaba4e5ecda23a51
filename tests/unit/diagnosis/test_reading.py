"""Logs as they come: prefixes of many systems, noise, broken bytes, several starts in one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vllm.diagnosis import diagnose
from pytest_vllm.diagnosis.ending import Ending

READY = "INFO:     Application startup complete."
STOPPED = "INFO 11-22 08:46:08 [launcher.py:254] [shutdown] API server: shutdown triggered"
NO_BLOCKS = "ValueError: No available memory for the cache blocks."


@pytest.mark.parametrize(
    "prefix",
    [
        "ERROR 12-05 20:24:46 engine.py:366] ",
        "(VllmWorker rank=1 pid=7) ERROR 03-01 10:00:00 [executor.py:1] ",
        "(VllmWorker TP0 pid=7) ERROR 03-01 10:00:00 [executor.py:1] ",
        "(EngineCore_DP0 pid=7) ERROR 03-01 10:00:00 [core.py:1] ",
        "(RayWorkerWrapper pid=7, ip=10.0.0.2) ERROR 03-01 10:00:00 worker_base.py:157] ",
        "Aug 19 18:34:30 node vllm[87]: (EngineCore pid=7) ERROR 08-19 18:34:30 [core.py:1] ",
        "2026-11-22T07:58:32.1Z stderr F (EngineCore pid=7) ERROR 11-22 07:58:32 [core.py:1] ",
        "  |   | 2025-11-04 10:08:01.17 master-0 >> (EngineCore pid=7) ERROR 11-04 10:08 [core.py:7] ",
        "[rank0]: ",
        "[36m",
    ],
)
def test_the_words_of_a_version_or_a_log_service_around_a_line_are_taken_off(prefix: str) -> None:
    found = diagnose(f"INFO starting\n{prefix}{NO_BLOCKS}", state=Ending(1))
    assert (found.cause, found.evidence) == ("no_memory_for_kv_cache", NO_BLOCKS)


def test_a_log_may_come_line_by_line() -> None:
    lines = iter([f"{READY}\n", f"(EngineCore pid=2) ERROR 01-01 00:00:00 [c.py:1] {NO_BLOCKS}\n"])
    assert diagnose(lines).also == ("no_memory_for_kv_cache",)


def test_a_warning_is_never_the_cause_of_an_error_that_no_rule_knows() -> None:
    log = (
        "WARNING 06-13 11:42:20 [_custom_ops.py:11] No module named 'flash_attn'\n"
        "(EngineCore pid=2) ERROR 06-13 11:42:21 [core.py:1] OddError: nobody has seen this"
    )
    assert diagnose(log, state=Ending(1)).cause == "unknown"


def test_a_start_with_warnings_is_no_failure() -> None:
    log = "WARNING 06-13 11:42:20 [_custom_ops.py:11] Failed to import from vllm._C: No module named 'vllm._C'\nINFO 06-13 11:42:21 [x.py:1] loading"
    assert diagnose(log).cause != "unknown"
    assert diagnose(f"{log}\n{READY}").cause == "none"


def test_an_error_that_requests_survived_is_no_death() -> None:
    log = (
        f"{READY}\n(EngineCore pid=2) ERROR 06-13 11:42:21 [core.py:1] ValueError: bad grammar\n"
        'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK'
    )
    assert diagnose(log).cause == "none"


def test_an_error_after_which_nothing_is_answered_is_a_death() -> None:
    log = f"{READY}\n(EngineCore pid=2) ERROR 06-13 11:42:21 [core.py:1] ValueError: odd"
    assert diagnose(log).cause == "engine_died_serving"


def test_what_was_said_before_the_server_was_ready_is_not_why_it_died() -> None:
    log = f"RuntimeError: HIP error: invalid device function\n{READY}\nERROR 01-01 00:00:00 [a.py:1] EngineDeadError: engine"
    assert diagnose(log).also == ()


def test_after_an_orderly_stop_the_next_start_in_the_same_log_counts() -> None:
    again = f"INFO 11-22 09:00:00 [api_utils.py:1] vLLM API server version 0.32.0\n{NO_BLOCKS}"
    assert diagnose(f"{READY}\n{STOPPED}\n{again}").cause == "no_memory_for_kv_cache"


def test_a_kill_by_docker_stop_after_the_shutdown_began_is_no_failure() -> None:
    assert diagnose(f"{READY}\n{STOPPED}", state=Ending(137, oom_killed=False)).cause == "none"


def test_a_kill_of_a_serving_process_is_told_from_its_exit_code() -> None:
    assert diagnose(READY, state=Ending(-9)).cause == "container_killed"


def test_an_old_server_that_is_ready_and_finds_its_port_taken_says_so() -> None:
    line = "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use"
    found = diagnose(f"{READY}\n{line}", state=Ending(1))
    assert (found.cause, found.numbers["port"]) == ("port_in_use", 8000)


def test_of_an_unknown_error_the_place_and_all_that_it_says_are_shown() -> None:
    log = "\n".join(
        f"(Worker pid=3) ERROR 06-13 11:42:21 [m.py:1] {text}"
        for text in (
            "WorkerProc failed to start.",
            "Traceback (most recent call last):",
            '  File "/x/vllm/odd.py", line 7, in load',
            "    raise OddError(text)",
            "OddError: first line",
            "and a second one",
        )
    )
    found = diagnose(f"{log}\nRuntimeError: Engine core initialization failed.", state=Ending(1))
    assert found.cause == "unknown"
    assert found.evidence.splitlines() == [
        'File "/x/vllm/odd.py", line 7, in load',
        "OddError: first line",
        "and a second one",
    ]


def test_an_error_that_was_survived_before_the_fatal_one_is_not_shown() -> None:
    worker = "(Worker pid=3) ERROR 06-13 11:42:21 [m.py:1] "
    log = f"{worker}HarmlessError: a\n{worker}WorkerProc failed to start.\n{worker}OddError: b"
    assert diagnose(log, state=Ending(1)).evidence == "OddError: b"


_WORDS = st.sampled_from(
    [
        READY,
        STOPPED,
        NO_BLOCKS,
        "(Worker pid=1) ERROR 01-01 00:00:00 [x.py:1] ",
        "Traceback (most recent call last):\n  File \"x\", line 1, in f\n",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.5 XiB.",
        "max_model_len (99999999999999999999999)",
        "(" * 300,
        "0" * 300,
        "a.b" * 300,
        " " * 300,
        "'\"{}[]",
        "\x1b[31m",
        "\r",
        "\0",
        "\n",
    ]
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(st.lists(st.one_of(_WORDS, st.text(max_size=40)), max_size=30), st.integers(-70, 300))
def test_whatever_a_log_holds_there_is_an_answer(parts: list[str], code: int) -> None:
    found = diagnose("".join(parts), state=Ending(code), docker_error="".join(parts[:2]) or None)
    assert found.cause
    assert found.title


@pytest.mark.parametrize("unit", ["(", "a", " ", "0", "a.b", "x-1 ", "size (", "Error: ", "'/a/"])
def test_no_rule_hangs_on_a_line_that_repeats_itself(unit: str) -> None:
    line = (unit * 100_000)[:100_000]
    began = time.process_time()
    diagnose(f"ERROR: {line}\nValueError: {line}\n{line}", state=Ending(1), docker_error=line)
    assert time.process_time() - began < 2
