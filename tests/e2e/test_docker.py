"""The main job in a container: facebook/opt-125m out of a mounted Hugging Face cache, offline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import IMAGE, Command, Finished


@pytest.fixture(scope="module")
def opt(run_pytest: Command, in_docker: list[str]) -> Finished:
    """`pytest --vllm-model facebook/opt-125m -v`."""
    return run_pytest("--vllm-model", "facebook/opt-125m", "-v", *in_docker)


def test_a_base_model_passes(opt: Finished) -> None:
    assert opt.exit_code == 0, opt.output


def test_core_checks_pass(opt: Finished) -> None:
    core = [test for test in opt.results["tests"] if test["level"] == "core"]
    ran = [test for test in core if test["verdict"] != "unsupported"]
    assert len(ran) >= 200
    # Known deviations of this vLLM are expected.
    assert {test["verdict"] for test in ran} <= {"passed", "expected_failure"}


def test_chat_on_a_base_model_is_an_expected_failure(opt: Finished) -> None:
    chats = [t for t in opt.results["tests"] if "test_chat.py::test_a_question_is" in t["id"]]
    assert {test["verdict"] for test in chats} == {"expected_failure"}


def test_the_reason_names_model_evidence_and_chat_models(opt: Finished) -> None:
    message = next(
        test["message"] for test in opt.results["tests"] if "test_chat.py::test_a_q" in test["id"]
    )
    assert "facebook/opt-125m is a base model" in message
    assert "/tokenize" in message
    assert "Qwen/Qwen2-7B-Instruct" in message


def test_the_summary_says_whether_it_works(opt: Finished) -> None:
    assert "vLLM: facebook/opt-125m =" in opt.output
    assert f"server    {IMAGE} (sha256:" in opt.output
    assert "Core works. Chat needs a chat model" in opt.output


def test_each_start_up_phase_is_a_line(opt: Finished) -> None:
    assert "vLLM facebook/opt-125m: loading weights" in opt.output
    assert "vLLM facebook/opt-125m: ready in " in opt.output


def test_results_record_the_image(opt: Finished, docker_client: Any) -> None:
    server = opt.results["servers"][0]
    assert server["image"] == IMAGE
    assert server["image_id"] == docker_client.images.get(IMAGE).id
    assert server["version"].startswith("0.32.0")
    assert server["platform"] == "cpu"
    assert server["capabilities"]["chat"]["kind"] == "base"
    assert server["capabilities"]["chat"]["decided_by"] == "server"


def test_junit_has_the_server_as_suite_properties(opt: Finished) -> None:
    found = {p.get("name"): p.get("value") for p in opt.junit.findall("properties/property")}
    assert found["vllm.model"] == "facebook/opt-125m"
    assert found["vllm.image"] == IMAGE
    assert str(found["vllm.image_id"]).startswith("sha256:")
    assert float(str(found["vllm.startup_s"])) > 1
    assert "completions" in str(found["vllm.capabilities"])


def test_junit_has_the_level_of_each_test(opt: Finished) -> None:
    levels = {p.get("value") for p in opt.junit.iter("property") if p.get("name") == "vllm_level"}
    assert levels == {"core", "optional"}


def test_the_log_outlives_the_container(opt: Finished) -> None:
    log = Path(opt.results["servers"][0]["log"]).read_text()
    assert "Application startup complete" in log
    assert "GET /health" in log or "POST /v1/completions" in log


def test_no_container_is_left(opt: Finished, containers: Callable[[Finished], set[str]]) -> None:
    assert opt.exit_code == 0
    assert containers(opt) == set()


def test_a_chat_model_chats(run_pytest: Command, in_docker: list[str], chat_model: Path) -> None:
    run = run_pytest(f"--vllm-model={chat_model}", *in_docker)
    assert run.exit_code == 0, run.output
    assert run.verdicts("POST /v1/chat/completions") <= {"passed", "expected_failure"}
    asked = [t for t in run.results["tests"] if "test_chat.py::test_a_question_is" in t["id"]]
    assert {test["verdict"] for test in asked} == {"passed"}


def test_a_model_that_is_not_there_is_an_error_shown_once_and_leaves_nothing(
    run_pytest: Command, in_docker: list[str], containers: Callable[[Finished], set[str]]
) -> None:
    run = run_pytest("--vllm-model", "nobody/nothing-7b", *in_docker)
    assert run.exit_code == 1
    assert run.output.count("The log ends with:") == 1
    assert {test["verdict"] for test in run.results["tests"]} == {"error"}
    assert "nobody/nothing-7b did not start: it ended: exit code 1" in run.output
    assert containers(run) == set()


@pytest.mark.parametrize(
    "entrypoint",
    ["[]", '["vllm", "serve"]', '["python3", "-m", "vllm.entrypoints.openai.api_server"]'],
)
def test_every_kind_of_entrypoint_is_served(
    entrypoint: str, run_pytest: Command, in_docker: list[str], docker_client: Any, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nENTRYPOINT {entrypoint}\nCMD []\n")
    image, _ = docker_client.images.build(path=str(tmp_path), rm=True)
    try:
        options = [*in_docker, f"--vllm-image={image.id}", "-k", "prompt_is_completed"]
        run = run_pytest("--vllm-model", "known-answer/base", *options)
    finally:
        docker_client.images.remove(image.id, force=True)
    assert run.exit_code == 0, run.output
    assert run.verdicts("POST /v1/completions") == {"passed"}
