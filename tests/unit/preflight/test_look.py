"""The preflight as a part of a start: it helps, and is never in the way."""

from __future__ import annotations

import logging
import pickle
import time
from pathlib import Path

import pytest

from pytest_vllm.errors import PreflightRefused
from pytest_vllm.preflight import Finding, Machine, examine, refusal
from pytest_vllm.preflight.plan import Plan
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.spec import ServerSpec
from tests.unit.machine import Machine as MadeUp

SPEC = ServerSpec("acme/m", platform="cpu", launcher="docker")
WARN = Finding("warn", "disk_full", "The disk is small.", "Make room.")
REFUSE = Finding("refuse", "tp_exceeds_gpus", "Too many GPUs.", "Use 1.", {"gpus": 2})
REFUSE_TOO = Finding("refuse", "port_in_use", "The port is taken.")


def breaks(plan: Plan) -> list[Finding]:
    raise ZeroDivisionError


def test_a_check_that_fails_is_silent_and_the_others_count(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG, "pytest_vllm"):
        assert examine(SPEC, Machine(), [breaks, lambda plan: [WARN]]) == [WARN]
    assert "preflight: breaks failed" in caplog.text


def test_a_running_server_is_not_looked_at() -> None:
    spec = ServerSpec("acme/m", launcher="external", url="http://127.0.0.1:1")
    assert examine(spec, Machine(), [lambda plan: [WARN]]) == []


def test_a_look_is_quick(eight: MadeUp, tmp_path: Path) -> None:
    machine = Machine(eight.root, {"HOME": str(tmp_path)})
    spec = ServerSpec("deepseek-ai/DeepSeek-V3.1", launcher="docker")
    examine(spec, machine)  # imports, and the table of recipes
    took = []
    for _ in range(5):
        began = time.perf_counter()
        examine(spec, machine)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05


# --- refusals ----------------------------------------------------------------------------------


def test_warnings_refuse_nothing() -> None:
    assert refusal("acme/m", [WARN]) is None


def test_a_refusal_says_why_what_to_do_and_what_else() -> None:
    error = refusal("acme/m", [WARN, REFUSE, REFUSE_TOO])
    assert str(error).splitlines() == [
        "acme/m was not started, since it cannot work: Too many GPUs.",
        "  do        Use 1.",
        "  also      The disk is small. Make room.",
        "  also      The port is taken.",
        "  anyway    --vllm-preflight=off starts it without a look",
    ]


def test_a_refusal_is_a_diagnosis() -> None:
    error = refusal("acme/m", [WARN, REFUSE, REFUSE_TOO])
    assert error is not None
    assert error.diagnosis is not None
    assert error.diagnosis["cause"] == "tp_exceeds_gpus"
    assert error.diagnosis["numbers"] == {"gpus": 2}
    assert error.diagnosis["also"] == ["port_in_use"]


def test_a_refusal_reaches_a_worker() -> None:
    error = refusal("acme/m", [REFUSE])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert isinstance(error, PreflightRefused)


def test_without_a_preflight_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_vllm.preflight import look

    monkeypatch.setattr(look, "examine", breaks)
    assert look.look(None, SPEC, LaunchPolicy("run", Path())) == ()  # type: ignore[arg-type]


def test_whatever_breaks_the_start_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_vllm.preflight import look

    monkeypatch.setattr(look, "examine", breaks)
    policy = LaunchPolicy("run", Path(), preflight=True)
    assert look.look(None, SPEC, policy) == ()  # type: ignore[arg-type]
