"""`python -m pytest_vllm doctor`: the preflight without a start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.preflight import doctor
from tests.plugin.conftest import INI
from tests.unit.machine import GIB, Machine, touch

MI300X = 206141652992


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with one MI300X, of which a process holds a part."""
    made_up = Machine(tmp_path / "root")
    made_up.memory(100 * GIB)
    touch(made_up.root / "dev/kfd")
    touch(made_up.root / "sys/module/amdgpu/version", "6.12.12\n")
    made_up.gpu(1, 128)
    made_up.vram(128, total=MI300X, used=30 * GIB)
    made_up.holder(4711, 1, 28 * GIB, "python3")
    return made_up


@pytest.fixture
def run(
    pytester: pytest.Pytester,
    machine: Machine,
    stand_in: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Run the doctor on the made-up machine; returns exit code and output."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HOME", str(pytester.path))
    monkeypatch.setattr(doctor, "ROOT", machine.root)
    pytester.makeini(INI)
    launch = [option for option in stand_in if "platform" not in option]

    def call(*arguments: str) -> tuple[int, str]:
        code = doctor.main([*launch, "--vllm-platform=rocm", *arguments])
        return code, capsys.readouterr().out

    return call


def test_a_machine_is_described(run: Any) -> None:
    code, text = run()
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[0] == "this machine"
    assert any(line.startswith("pytest-timeout 2.") for line in lines)
    assert any(line.startswith("local vLLM version unknown (") for line in lines)
    assert any(line.startswith("driver amdgpu 6.12.12 (Linux") for line in lines)
    assert any(line.startswith("device /dev/kfd -rw") for line in lines)
    assert (
        "GPU 0 /dev/dri/renderD128 gfx942 192.0 GiB, 162.0 GiB free; held by "
        "python3 (pid 4711): 28.0 GiB" in lines
    )
    assert "memory 100.0 GiB available" in lines
    assert lines[-1] == "Nothing is in the way."


def test_a_token_is_told_to_be_there_and_not_shown(run: Any) -> None:
    _, text = run()
    assert "yes, in HF_TOKEN" in text
    assert "hf_secret" not in text


def test_a_model_that_cannot_work_is_refused_with_the_remedy(run: Any) -> None:
    code, text = run("--vllm-model=deepseek-ai/DeepSeek-V3.1")
    assert code == 1
    assert "REFUSED" in text
    assert "--vllm-gpus 8 (vllm serve --tensor-parallel-size 8)" in text
    assert text.endswith("Something is in the way.\n")


def test_a_model_that_is_only_warned_of_is_not_refused(run: Any) -> None:
    code, text = run("--vllm-model=acme/foo-7B")
    assert code == 0
    assert "weights         13.0 GiB (estimated from its name)" in text
    assert "warning         /dev/dri/renderD128 has 162.0 GiB of 192.0 GiB free" in text


def test_every_model_has_a_part(run: Any) -> None:
    code, text = run("--vllm-model=acme/a-7B", "--vllm-model=acme/b-8B", "--json")
    assert code == 0
    parts = json.loads(text)["parts"]
    assert [part["title"] for part in parts] == ["this machine", "acme/a-7B", "acme/b-8B"]


def test_json_has_facts_findings_and_the_verdict(run: Any) -> None:
    code, text = run("--json", "--vllm-model=deepseek-ai/DeepSeek-V3.1")
    assert code == 1
    told = json.loads(text)
    assert told["ok"] is False
    (finding, *_) = told["parts"][1]["findings"]
    assert list(finding) == ["level", "cause", "what", "remedy", "numbers"]
    assert finding["numbers"]["gpus_needed"] == 8


def test_options_count_as_in_a_run(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makeini(f"{INI}vllm_model = acme/foo-7B\nvllm_gpu_util = 0.5\ntimeout = 12\n")
    _, text = run()
    assert "acme/foo-7B\n" in text
    assert "share           0.5\n" in text
    assert "time limit      12 s per test\n" in text


def test_a_wrong_option_is_the_users(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, _ = run("--vllm-gpus=two")
    assert code == pytest.ExitCode.USAGE_ERROR


def test_without_anything_to_start_servers_with_it_is_refused(run: Any) -> None:
    code, text = run("--vllm-python=/nowhere/python")
    assert code == 1
    assert "/nowhere/python does not run as a Python interpreter" in text


def test_a_broken_conftest_is_none_of_its_business(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("raise RuntimeError")
    assert run()[0] == 0


def test_help_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main(["--help"]) == 0
    assert "Nothing is started and nothing is downloaded." in capsys.readouterr().out
