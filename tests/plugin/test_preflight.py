"""What a run says before it starts a server, and how it tries again; plain and with workers."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.plugin.conftest import Run

TWO = """
def test_first(vllm_server): ...
def test_second(vllm_server): ...
"""
MARKED = """
import pytest

@pytest.mark.timeout(77)
def test_first(vllm_server): ...

@pytest.mark.timeout(9999)
def test_second(vllm_server): ...

@pytest.mark.timeout(5, func_only=True)
def test_third(vllm_server): ...
"""
REPORTS = ("--vllm-results=r.json", "--junitxml=j.xml")
HUGE = "--vllm-model=acme/huge-700B"


def server(pytester: pytest.Pytester) -> dict[str, Any]:
    """The only server in the JSON results."""
    (found,) = json.loads((pytester.path / "r.json").read_text())["servers"]
    server: dict[str, Any] = found
    return server


def junit(pytester: pytest.Pytester) -> dict[str | None, str]:
    """The properties of the suite."""
    root = ET.parse(pytester.path / "j.xml").getroot()
    return {p.get("name"): str(p.get("value")) for p in root.iter("property")}


# --- warnings ----------------------------------------------------------------------------------


def test_a_warning_is_shown_once_with_its_numbers(anyhow: Run, stand_in: list[str]) -> None:
    result = anyhow(TWO, HUGE, *stand_in)
    text = result.stdout.str()
    assert text.count("warning: acme/huge-700B needs about 1303.9 GiB (estimated from its") == 1
    result.assert_outcomes(passed=2)


def test_a_warning_is_a_note_in_every_report(
    anyhow: Run, stand_in: list[str], pytester: pytest.Pytester
) -> None:
    anyhow(TWO, HUGE, *REPORTS, *stand_in)
    notes = server(pytester)["notes"]
    assert [n for n in notes if n.startswith("warning: acme/huge-700B needs about 1303.9 GiB")]
    assert "warning: acme/huge-700B needs about" in junit(pytester)["vllm.notes"]


def test_a_start_that_fails_says_what_was_foretold(
    anyhow: Run, stand_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN", "exit:1")
    text = anyhow(TWO, HUGE, *stand_in).stdout.str()
    assert text.count("Before the start:") == 1
    assert text.count("warning: acme/huge-700B needs about 1303.9 GiB") == 2


def test_the_preflight_can_be_switched_off(run: Run, stand_in: list[str]) -> None:
    text = run(TWO, HUGE, "--vllm-preflight=off", *stand_in).stdout.str()
    assert "warning" not in text


def test_a_server_at_a_url_has_no_preflight(run: Run, server: Any) -> None:
    text = run(TWO, f"--vllm-url={server.url}", HUGE).stdout.str()
    assert "warning" not in text


# --- refusals ----------------------------------------------------------------------------------


@pytest.fixture
def kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable with which no vLLM starts."""
    monkeypatch.setenv("VLLM_PORT", "tcp://10.0.0.1:8000")


@pytest.mark.usefixtures("kubernetes")
def test_what_cannot_work_is_refused_once_and_then_in_one_line(
    anyhow: Run, stand_in: list[str]
) -> None:
    result = anyhow(TWO, "--vllm-model=acme/m", *stand_in)
    text = result.stdout.str()
    assert text.count("  do        Unset it (env -u VLLM_PORT") == 1
    assert "(see the first error of this server)" in text
    result.assert_outcomes(errors=2)


@pytest.mark.usefixtures("kubernetes")
def test_a_refusal_starts_nothing_and_is_diagnosed(
    anyhow: Run, stand_in: list[str], pytester: pytest.Pytester
) -> None:
    anyhow(TWO, "--vllm-model=acme/m", "--vllm-log-dir=logs", *REPORTS, *stand_in)
    found = server(pytester)["diagnosis"]
    assert found["cause"] == "vllm_port_env_from_kubernetes"
    assert list((pytester.path / "logs").glob("*.log")) == []


@pytest.mark.usefixtures("kubernetes")
def test_a_refusal_can_be_overruled(run: Run, stand_in: list[str]) -> None:
    result = run(TWO, "--vllm-model=acme/m", "--vllm-preflight=off", *stand_in)
    result.assert_outcomes(passed=2)


# --- time limits of the run --------------------------------------------------------------------


def test_a_mark_that_would_kill_the_start_is_named(anyhow: Run, stand_in: list[str]) -> None:
    text = anyhow(MARKED, "--vllm-model=acme/m", *stand_in).stdout.str()
    assert text.count("test_first[acme/m] may take 77 s with the start of the server, which") == 1
    assert "Mark it timeout(77, func_only=True)" in text


def test_a_limit_that_does_not_count_fixtures_is_none(
    run: Run, stand_in: list[str], pytester: pytest.Pytester
) -> None:
    options = ("-o", "timeout_func_only=true", "--timeout=9")
    text = run(MARKED, "--vllm-model=acme/m", *options, *stand_in).stdout.str()
    assert "warning" not in text


def test_a_start_that_is_shorter_than_the_mark_is_fine(run: Run, stand_in: list[str]) -> None:
    options = ("--vllm-startup-timeout=60",)
    assert "warning" not in run(MARKED, "--vllm-model=acme/m", *options, *stand_in).stdout.str()


def test_a_run_that_is_too_short_for_a_start_is_named(anyhow: Run, stand_in: list[str]) -> None:
    text = anyhow(TWO, "--vllm-model=acme/m", "--session-timeout=700", *stand_in).stdout.str()
    assert text.count("The whole run may take 700 s (--session-timeout), and the start of a") == 1


@pytest.mark.skipif(pytest.version_tuple < (9,), reason="pytest 9 has it")
def test_a_process_that_ends_itself_is_named(run: Run, stand_in: list[str]) -> None:
    ends = ("-o", "faulthandler_timeout=500", "-o", "faulthandler_exit_on_timeout=true")
    text = run(TWO, "--vllm-model=acme/m", *ends, *stand_in).stdout.str()
    assert "pytest ends itself 500 s into a test (faulthandler_exit_on_timeout)" in text


# --- a second try ------------------------------------------------------------------------------

NOTE = "--vllm-auto-adjust: --vllm-gpu-util 0.85 instead of 0.92 (164.76 of 191.98 GiB are free)"


@pytest.fixture
def busy_gpu(monkeypatch: pytest.MonkeyPatch, stand_in: list[str]) -> list[str]:
    """A server that wants more than is free, as an MI300X that others use."""
    monkeypatch.setenv("STANDIN", "busy_gpu")
    return ["--vllm-model=acme/m", *stand_in]


def test_a_busy_gpu_is_tried_again_with_the_share_that_is_free(
    anyhow: Run, busy_gpu: list[str], pytester: pytest.Pytester
) -> None:
    result = anyhow(TWO, "--vllm-auto-adjust", *REPORTS, *busy_gpu)
    result.assert_outcomes(passed=2)
    assert server(pytester)["notes"][0].startswith(NOTE)
    assert junit(pytester)["vllm.notes"].startswith(NOTE)
    # Said as it happens, and in the summary.
    assert result.stdout.str().count(NOTE) == 2


def test_without_the_option_it_is_not_tried_again(anyhow: Run, busy_gpu: list[str]) -> None:
    result = anyhow(TWO, *busy_gpu)
    result.assert_outcomes(errors=2)
    assert "--vllm-auto-adjust" not in result.stdout.str()


def test_a_second_failure_is_the_last_and_both_are_reported(
    anyhow: Run,
    stand_in: list[str],
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STANDIN", "exit:1")
    options = ("--vllm-model=acme/m", "--vllm-auto-adjust", "--vllm-log-dir=logs")
    result = anyhow(TWO, *options, *stand_in)
    text = result.stdout.str()
    assert text.count("This was the second try (--vllm-auto-adjust: --vllm-gpu-util 0.85") == 1
    assert text.count("acme/m did not start: it ended") >= 2
    assert len(list((pytester.path / "logs").glob("*.log"))) == 2
    result.assert_outcomes(errors=2)


def test_a_failure_for_another_reason_is_not_tried_again(
    run: Run, stand_in: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN", "wrong_model")
    options = ("--vllm-model=acme/m", "--vllm-auto-adjust", "--vllm-log-dir=logs")
    run(TWO, *options, *stand_in)
    assert len(list((pytester.path / "logs").glob("*.log"))) == 1
