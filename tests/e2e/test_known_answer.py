"""The known-answer models on a real engine, shared by two xdist workers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import Command, Finished

MODELS = ("known-answer/base", "known-answer/context", "known-answer/chat")


@pytest.fixture(scope="module")
def three(run_pytest: Command, in_docker: list[str]) -> Finished:
    """All three models in one run with two workers."""
    chosen = [f"--vllm-model={model}" for model in MODELS]
    which = "known_answer or test_tools_exact or test_prefix_cache or test_metrics"
    return run_pytest(*chosen, *in_docker, "-n", "2", "-k", which)


def test_every_exact_check_passes(three: Finished) -> None:
    assert three.exit_code == 0, three.output
    exact = [t for t in three.results["tests"] if "test_known_answer" in t["id"]]
    for model in MODELS:
        verdicts = [t["verdict"] for t in exact if t["model"] == model]
        assert "passed" in verdicts
        assert set(verdicts) <= {"passed", "unsupported"}


def test_each_server_starts_once_for_both_workers(three: Finished) -> None:
    for model in MODELS:
        assert three.output.count(f"vLLM {model}: ready in ") == 1
    assert len(three.results["servers"]) == 3


def test_both_workers_ran_tests(three: Finished) -> None:
    assert "2 workers" in three.output


def test_the_chat_model_chats(three: Finished) -> None:
    chat = [t for t in three.results["tests"] if t["endpoint"] == "POST /v1/chat/completions"]
    by_model = {model: {t["verdict"] for t in chat if t["model"] == model} for model in MODELS}
    assert by_model["known-answer/chat"] <= {"passed", "unsupported", "expected_failure"}
    assert "passed" in by_model["known-answer/chat"]
    assert by_model["known-answer/base"] <= {"expected_failure", "unsupported", "passed"}


def test_no_container_is_left(three: Finished, containers: Callable[[Finished], set[str]]) -> None:
    assert three.exit_code == 0
    assert containers(three) == set()


def test_float32_is_exact_to_a_thousandth(run_pytest: Command, as_process: list[str]) -> None:
    run = run_pytest(
        "--vllm-model=known-answer/context",
        *as_process,
        "--vllm-dtype=float32",
        "-k",
        "test_known_answer",
    )
    assert run.exit_code == 0, run.output
    assert sum(test["verdict"] == "passed" for test in run.results["tests"]) >= 2
