"""Real servers: a real vLLM in a real container, or as a process; tiny but real checkpoints.

Where Docker or vLLM is missing these tests skip with the reason. With
PYTEST_VLLM_E2E_REQUIRED=1, as in CI, a missing part is a failure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import tiny_models

ROOT = Path(__file__).parents[2]
IMAGE = os.environ.get("PYTEST_VLLM_E2E_IMAGE", "pytest-vllm-cpu:test")
PYTHON = os.environ.get("PYTEST_VLLM_E2E_PYTHON", str(ROOT / ".venv-engine" / "bin" / "python"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything here, so that `-m "not e2e"` leaves it out."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(900))


def missing(reason: str) -> None:
    """Skip, or fail where everything must be there."""
    if os.environ.get("PYTEST_VLLM_E2E_REQUIRED"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_client() -> Any:
    """The Docker engine, with the CPU image on it."""
    import docker

    try:
        client = docker.from_env()
        client.images.get(IMAGE)
    except docker.errors.ImageNotFound:
        missing(f"no image {IMAGE}: docker build -f docker/Dockerfile.cpu -t {IMAGE} .")
    except docker.errors.DockerException as error:
        missing(f"no Docker engine: {error}")
    return client


@pytest.fixture(scope="session")
def engine_python() -> str:
    """An interpreter that has vLLM for the CPU."""
    if not Path(PYTHON).exists():
        missing(f"no {PYTHON}: python docker/install_engine.py --target-venv .venv-engine")
    return PYTHON


@pytest.fixture(scope="session")
def hf_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache that holds a tiny facebook/opt-125m and nothing else."""
    return tiny_models.opt_in_hub_cache(tmp_path_factory.mktemp("huggingface"))


@pytest.fixture(scope="session")
def chat_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a tiny chat model."""
    return tiny_models.chat_model(tmp_path_factory.mktemp("models") / "tiny-chat")


@dataclass(frozen=True)
class Finished:
    """A pytest run that ended."""

    exit_code: int
    output: str
    folder: Path

    @cached_property
    def results(self) -> dict[str, Any]:
        """The file of --vllm-results."""
        loaded: dict[str, Any] = json.loads((self.folder / "results.json").read_text())
        return loaded

    @cached_property
    def junit(self) -> ET.Element:
        """The test suite of --junitxml."""
        suite = ET.parse(self.folder / "junit.xml").getroot().find("testsuite")
        assert suite is not None
        return suite

    def verdicts(self, endpoint: str) -> set[str]:
        """The verdicts of an endpoint's tests that could run."""
        tests = [test for test in self.results["tests"] if test["endpoint"] == endpoint]
        return {test["verdict"] for test in tests} - {"unsupported"}


Command = Callable[..., Finished]


def run(folder: Path, *arguments: str, module: str = "pytest", **environment: str) -> Finished:
    """Run pytest as a user would, from the repository, and keep what it wrote."""
    # Without CI, where pytest repeats whole messages in its short summary.
    kept = (k for k in os.environ if not k.startswith(("VLLM_", "PYTEST_", "HF_")) and k != "CI")
    env = {k: os.environ[k] for k in kept}
    command = [sys.executable, "-m", module, *arguments, "-p", "no:cacheprovider"]
    command += [f"--junitxml={folder}/junit.xml", f"--vllm-results={folder}/results.json"]
    command += [f"--vllm-log-dir={folder}/logs", "--vllm-lang=en"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=env | {"COLUMNS": "120"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=850,
    )
    return Finished(done.returncode, done.stdout, folder)


@pytest.fixture(scope="module")
def run_pytest(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """A function that runs pytest on arguments, in a folder of its own."""

    def call(*arguments: str, **options: str) -> Finished:
        return run(tmp_path_factory.mktemp("run"), *arguments, **options)

    return call


@pytest.fixture(scope="session")
def in_docker(docker_client: Any, hf_cache: Path) -> list[str]:
    """The options that make a small server in a container."""
    return [
        "--vllm-launcher=docker",
        f"--vllm-image={IMAGE}",
        "--vllm-platform=cpu",
        f"--vllm-hf-cache={hf_cache}",
        "--vllm-env=HF_HUB_OFFLINE=1",
        "--vllm-max-model-len=512",
    ]


@pytest.fixture(scope="session")
def as_process(engine_python: str, hf_cache: Path) -> list[str]:
    """The options that make a small server as a process."""
    return [
        "--vllm-launcher=process",
        f"--vllm-python={engine_python}",
        f"--vllm-hf-cache={hf_cache}",
        "--vllm-env=HF_HUB_OFFLINE=1",
        "--vllm-max-model-len=512",
    ]


@pytest.fixture
def containers(docker_client: Any) -> Callable[[Finished], set[str]]:
    """A function that names the containers of a run that still exist."""

    def of(run: Finished) -> set[str]:
        label = f"pytest-vllm.run={run.results['run']['id']}"
        found = docker_client.containers.list(all=True, filters={"label": label})
        return {container.name for container in found}

    return of
