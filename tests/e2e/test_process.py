"""The process launcher and the URL mode on a real vLLM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from pytest_vllm.servers.server import Server
from pytest_vllm.spec import ServerSpec
from tests.e2e.conftest import Command, Finished
from tests.fake_server import FakeServer


@pytest.fixture(scope="module")
def core(run_pytest: Command, as_process: list[str]) -> Finished:
    """`pytest -m core`: no model is named, so it is facebook/opt-125m."""
    return run_pytest("-m", "core", *as_process)


def test_the_default_model_passes_its_core_checks(core: Finished) -> None:
    assert core.exit_code == 0, core.output
    assert {test["model"] for test in core.results["tests"]} == {"facebook/opt-125m"}
    assert {test["level"] for test in core.results["tests"]} == {"core"}


def test_no_process_of_the_server_is_left(core: Finished) -> None:
    assert core.exit_code == 0
    log_dir = str(core.folder / "logs")
    assert not [
        process.pid
        for process in psutil.process_iter(["name"])
        if "VLLM" in (process.info["name"] or "") and _writes_below(process, log_dir)
    ]


def _writes_below(process: psutil.Process, folder: str) -> bool:
    try:
        return any(file.path.startswith(folder) for file in process.open_files())
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def running(engine_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server that somebody else started: the URL mode must leave it alone."""
    pool = ServerPool(LaunchPolicy("e2e-url", tmp_path_factory.mktemp("logs")), print_nothing)
    try:
        yield pool.lease(
            ServerSpec(
                "known-answer/chat",
                launcher="process",
                python=engine_python,
                platform="auto",
                max_model_len=512,
            )
        )
    finally:
        pool.close()


def print_nothing(model: str, line: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="module")
def at_url(running: Server, run_pytest: Command) -> Finished:
    """`pytest --vllm-url URL -n 2`, and of the suite what shows it."""
    which = "test_known_answer or test_metrics or test_chat_stream or test_aftermath"
    return run_pytest("--vllm-url", running.base_url, "-n", "2", "-k", which)


def test_a_url_is_tested_without_a_start(at_url: Finished) -> None:
    assert at_url.exit_code == 0, at_url.output
    assert at_url.results["servers"][0]["startup_s"] is None
    assert "vLLM: known-answer/chat =" in at_url.output


def test_the_model_of_a_url_gets_its_exact_checks(at_url: Finished) -> None:
    exact = [t for t in at_url.results["tests"] if "test_known_answer" in t["id"]]
    assert "passed" in {test["verdict"] for test in exact}
    assert "failed" not in {test["verdict"] for test in exact}


def test_the_server_at_a_url_still_runs_afterwards(at_url: Finished, running: Server) -> None:
    assert at_url.exit_code == 0
    assert psutil.pid_exists(int(running.facts["pid"]))


def test_the_module_is_an_alias(running: Server, run_pytest: Command) -> None:
    options = ("-k", "prompt_is_completed")
    run = run_pytest("--vllm-url", running.base_url, *options, module="pytest_vllm")
    assert run.exit_code == 0, run.output


def test_a_core_failure_exits_with_1(run_pytest: Command) -> None:
    with FakeServer(faults=frozenset({"no_done"})) as server:
        run = run_pytest("--vllm-url", server.url, "-k", "unstreamed_answer and plain")
    assert run.exit_code == 1
    assert run.verdicts("POST /v1/completions (stream)") >= {"failed"}
    assert "Core does not work: POST /v1/completions (stream)." in run.output


def test_only_optional_failures_exit_with_0(run_pytest: Command) -> None:
    with FakeServer(faults=frozenset({"models_500"})) as server:
        options = ("--vllm-model", server.model, "-k", "prompt_is_completed or served_model")
        run = run_pytest("--vllm-url", server.url, *options)
    assert run.exit_code == 0, run.output
    assert run.verdicts("GET /v1/models") == {"optional_failed"}


def test_a_folder_without_vllm_is_refused_before_anything_starts(
    run_pytest: Command, tmp_path: Path
) -> None:
    run = run_pytest("-m", "core", "--vllm-launcher=process", f"--vllm-python={tmp_path}/python")
    assert run.exit_code == 1
    assert "does not run as a Python interpreter" in run.output
    assert "--vllm-python" in run.output
