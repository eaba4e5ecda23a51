"""The suite on a server that is not vLLM: llama.cpp, with the known-answer models as GGUF.

An engine that shares no code with vLLM agrees with the same formulas, and lacks vLLM's own
extensions: those are "unsupported", and no failure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.gguf import write_gguf
from pytest_vllm.models.known_answer.samples import long_prompt
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
    """The exact tests of text, and some that only vLLM can pass.

    Not all: llama.cpp really breaks rules of streams and of completions' logprobs.
    """
    words = ("greedy_text_is_the", "prompt_of_token_ids_is", "the_end_token_ends", "cache_salt")
    return run_pytest(f"--vllm-url={url}", f"--vllm-model={name}", "-k", " or ".join(words))


def test_the_second_engine_gives_the_predicted_text(finished: Finished) -> None:
    exact = [t for t in finished.results["tests"] if "test_known_answer.py" in t["id"]]
    assert [t["verdict"] for t in exact] == ["passed"] * 3, finished.output


def test_the_second_engine_gives_the_predicted_logprobs(url: str, name: str) -> None:
    model = predictor(name)
    ids = model.encode(long_prompt(300))
    body = {"prompt": ids, "max_tokens": 12, "temperature": 0, "logprobs": 5}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
    served = answer["choices"][0]["logprobs"]["content"]
    steps = model.answer(ids, 12, top=1000).steps
    errors = [
        abs(dict(step.top)[candidate["id"]] - candidate["logprob"])
        for step, position in zip(steps, served, strict=True)
        for candidate in position["top_logprobs"]
    ]
    assert len(errors) == 60
    assert max(errors) < 1e-2


def test_what_only_vllm_promises_is_unsupported(finished: Finished) -> None:
    reasons = {t["message"] for t in finished.results["tests"] if t["verdict"] == "unsupported"}
    assert any("it is not vLLM: GET /v1/models says owned_by llamacpp" in r for r in reasons)
