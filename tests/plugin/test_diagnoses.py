"""A server that fails is diagnosed once, in full, and in every report; plain and with workers."""

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

DIES = """
import pytest

def test_killer(vllm_client, vllm_server):
    with pytest.raises(Exception):
        vllm_client.post("/v1/completions", json={"model": vllm_server.model, "prompt": "a"})

def test_later(vllm_server): ...
"""

KEYS = ["cause", "title", "evidence", "remedy", "numbers", "confidence", "also"]
REPORTS = ("--vllm-model=acme/m", "--vllm-results=r.json", "--junitxml=j.xml")


def diagnosis(pytester: pytest.Pytester) -> dict[str, Any]:
    """Of the only server in the JSON results."""
    (server,) = json.loads((pytester.path / "r.json").read_text())["servers"]
    found: dict[str, Any] = server["diagnosis"]
    return found


@pytest.fixture
def full_gpu(monkeypatch: pytest.MonkeyPatch, stand_in: list[str]) -> list[str]:
    """A start that fails for want of memory on the GPU."""
    monkeypatch.setenv("STANDIN", "exit:1")
    return stand_in


def test_a_failed_start_is_shown_in_full_once_and_then_in_one_line(
    anyhow: Run, full_gpu: list[str]
) -> None:
    text = anyhow(TWO, "--vllm-model=acme/m", *full_gpu).stdout.str()
    assert text.count("  evidence  ") == 1
    assert text.count("so use --vllm-gpu-util 0.85 or less") == 1
    assert "(see the first error of this server)" in text


def test_results_have_the_diagnosis_of_a_failed_start(
    anyhow: Run, full_gpu: list[str], pytester: pytest.Pytester
) -> None:
    anyhow(TWO, *REPORTS, *full_gpu)
    found = diagnosis(pytester)
    assert list(found) == KEYS
    assert found["cause"] == "gpu_memory_utilization_too_high"
    assert found["numbers"]["max_gpu_util"] == 0.85
    assert "164.76/191.98 GiB = 0.858" in found["remedy"]


def test_junit_has_the_cause_and_the_remedy_as_properties_of_the_suite(
    anyhow: Run, full_gpu: list[str], pytester: pytest.Pytester
) -> None:
    anyhow(TWO, *REPORTS, *full_gpu)
    root = ET.parse(pytester.path / "j.xml").getroot()
    found = {p.get("name"): str(p.get("value")) for p in root.iter("property")}
    assert found["vllm.cause"] == "gpu_memory_utilization_too_high"
    assert "--gpu-memory-utilization 0.85" in found["vllm.remedy"]


def test_a_death_during_a_test_is_diagnosed(
    anyhow: Run, stand_in: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN", "crash_on_first_completion")
    anyhow(DIES, *REPORTS, *stand_in)
    found = diagnosis(pytester)
    assert list(found) == KEYS
    assert found["numbers"]["exit"] == 70


def test_a_healthy_server_has_no_diagnosis(
    run: Run, stand_in: list[str], pytester: pytest.Pytester
) -> None:
    run(TWO, *REPORTS, *stand_in)
    assert diagnosis(pytester) is None


def test_a_token_in_the_log_is_in_no_report(
    run: Run, full_gpu: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "GPU memory")
    result = run(TWO, *REPORTS, *full_gpu)
    written = [(pytester.path / name).read_text() for name in ("r.json", "j.xml")]
    assert "GPU memory utilization (0.92" not in "".join([result.stdout.str(), *written])
    assert "$HF_TOKEN" in diagnosis(pytester)["evidence"]
