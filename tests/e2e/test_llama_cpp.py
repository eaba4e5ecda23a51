"""The suite on a server that is not vLLM: llama.cpp, with the known-answer models as GGUF.

An engine that shares no code with vLLM agrees with the same formulas, and lacks vLLM's own
extensions: those are "unsupported", and no failure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vllm.models.known_answer.gguf import write_gguf
from tests.e2e.conftest import Command, Finished, missing

SERVER = Path(__file__).parent / "llama_cpp.py"


@pytest.fixture(scope="module", params=["context", "chat"])
def name(request: pytest.FixtureRequest) -> str:
    return f"known-answer/{request.param}"


@pytest.fixture(scope="module")
def url(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a llama.cpp server with this model."""
    try:
        import xllamacpp  # noqa: F401 - whether it is there
    except ImportError:
        missing("no llama.cpp: pip install xllamacpp")
    file = write_gguf(name, tmp_path_factory.mktemp("gguf") / "model.gguf")
    words = [sys.executable, str(SERVER), str(file), name]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        assert address, "llama.cpp did not start"
        yield address


@pytest.fixture(scope="module")
def finished(url: str, name: str, run_pytest: Command) -> Finished:
    """The whole suite on it."""
    return run_pytest(f"--vllm-url={url}", f"--vllm-model={name}")


def test_the_second_engine_passes_the_exact_checks(finished: Finished, name: str) -> None:
    exact = [t for t in finished.results["tests"] if "test_known_answer" in t["id"]]
    assert {t["verdict"] for t in exact} <= {"passed", "unsupported"}, finished.output
    assert sum(t["verdict"] == "passed" for t in exact) >= 5


def test_what_only_vllm_promises_is_unsupported(finished: Finished) -> None:
    reasons = {t["message"] for t in finished.results["tests"] if t["verdict"] == "unsupported"}
    assert any("it is not vLLM: GET /v1/models says owned_by llamacpp" in r for r in reasons)
