"""The memory estimate against what a real vLLM says of itself, and the remedy that it computes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.models.memory import GIB, look_up
from pytest_vllm.preflight.plan import Machine, Plan
from pytest_vllm.servers.holders import docker_names
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from pytest_vllm.spec import ServerSpec
from tests.e2e import tiny_shapes
from tests.e2e.conftest import IMAGE, Command, Finished
from tests.e2e.test_process import print_nothing

#: Tokens that a request may have: more than fit, and what fits by vLLM's own estimate.
TOO_LONG = 40960


@dataclass(frozen=True)
class Started:
    """A server that was started, and its end."""

    plan: Plan
    log: str


@pytest.fixture(scope="module", params=["mha", "gqa", "mla", "sliding"])
def started(
    request: pytest.FixtureRequest, engine_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Started:
    """A real vLLM on each kind of attention, with 1 GiB for its KV cache."""
    folder = tmp_path_factory.mktemp(request.param)
    model = tiny_shapes.build(request.param, folder / request.param)
    spec = ServerSpec(str(model), launcher="process", python=engine_python, platform="cpu")
    pool = ServerPool(LaunchPolicy("e2e-memory", folder / "logs"), print_nothing)
    try:
        log_path = pool.lease(spec).log_path
        assert log_path is not None
        log = log_path.read_text()
    finally:
        pool.close()
    return Started(Plan(spec, Machine()), log)


def test_the_estimate_is_what_vllm_itself_says(started: Started) -> None:
    weights, cache, length = started.plan.model.weights, started.plan.kv_cache, started.plan.length
    assert weights is not None
    assert cache is not None
    assert length is not None
    said = re.search(r"Checkpoint size: ([\d.]+) GiB", started.log)
    assert said is not None
    assert f"{weights.bytes / GIB:.2f}" == said[1]
    said = re.search(r"CPU KV cache size: ([\d,]+) tokens", started.log)
    assert said is not None
    assert cache.capacity(GIB, length) == int(said[1].replace(",", ""))
    said = re.search(r"Maximum concurrency for [\d,]+ tokens per request: ([\d.]+)x", started.log)
    assert said is not None
    assert f"{int(GIB // cache.block_bytes) / cache.blocks(length):.2f}" == said[1]


# --- a context that does not fit ---------------------------------------------------------------


@pytest.fixture(scope="module")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose longest context needs more than the KV cache has."""
    return tiny_shapes.build("long", tmp_path_factory.mktemp("long") / "long")


@pytest.fixture(scope="module")
def too_long(long_model: Path, engine_python: str) -> list[str]:
    """A test that wants no more than a server, and options that vLLM refuses."""
    test = long_model.parent / "test_start.py"
    test.write_text("def test_it(vllm_server): ...\n")
    return [
        str(test),
        f"--vllm-model={long_model}",
        "--vllm-launcher=process",
        f"--vllm-python={engine_python}",
        f"--vllm-max-model-len={TOO_LONG}",
    ]


@pytest.fixture(scope="module")
def refused(run_pytest: Command, too_long: list[str]) -> Finished:
    return run_pytest(*too_long)


@pytest.fixture(scope="module")
def adjusted(run_pytest: Command, too_long: list[str]) -> Finished:
    return run_pytest(*too_long, "--vllm-auto-adjust")


def test_without_the_option_the_refusal_is_the_end(refused: Finished) -> None:
    assert refused.exit_code == 1
    (server,) = refused.results["servers"]
    assert server["diagnosis"]["cause"] == "kv_cache_too_small_for_max_model_len"


def test_the_preflight_foretells_the_length_that_vllm_names(refused: Finished) -> None:
    said = re.search(r"estimated maximum model length is (\d+)", refused.output)
    assert said is not None
    fits = int(said[1]) // 16 * 16
    assert f"Use --vllm-max-model-len {fits} (vllm serve --max-model-len {fits})" in refused.output


def test_with_the_option_it_starts_with_what_fits(adjusted: Finished) -> None:
    assert adjusted.exit_code == 0, adjusted.output
    (server,) = adjusted.results["servers"]
    assert server["version"]
    (note,) = [note for note in server["notes"] if note.startswith("--vllm-auto-adjust")]
    assert re.search(rf"--vllm-max-model-len 3\d{{4}} instead of {TOO_LONG}", note)
    assert note in re.sub(r"\s*\n\s*", " ", adjusted.output)


def test_the_reports_say_what_was_changed(adjusted: Finished) -> None:
    names = {p.get("name"): str(p.get("value")) for p in adjusted.junit.iter("property")}
    assert "--vllm-auto-adjust" in names["vllm.notes"]


def test_weights_on_disk_in_four_bytes_are_served_in_two(long_model: Path) -> None:
    weights = look_up(str(long_model), None).weights
    assert weights is not None
    assert weights.loaded <= weights.bytes


# --- who holds it ------------------------------------------------------------------------------


def test_docker_knows_the_name_of_a_container(docker_client: Any) -> None:
    container = docker_client.containers.create(IMAGE, name="pytest-vllm-e2e-holder")
    try:
        known = f"pytest-vllm-e2e-holder ({container.id[:12]})"
        assert docker_names(container.id[:12]) == known
    finally:
        container.remove()
    assert docker_names(container.id[:12]) == container.id[:12]
