"""GPUs, image, model, token, disk, ports and variables."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_vllm.preflight.gpus import may_open
from tests.unit.machine import GIB, touch
from tests.unit.machine import Machine as MadeUp
from tests.unit.preflight.conftest import Examine

Checkpoint = Callable[..., str]


# --- GPUs --------------------------------------------------------------------------------------


def test_more_gpus_than_there_are_cannot_work(mi300x: MadeUp, look: Examine) -> None:
    finding = look(mi300x, "facebook/opt-125m", gpus=2)["tp_exceeds_gpus"]
    assert finding.level == "refuse"
    assert "is to run on 2 GPUs, and this machine has 1 (/dev/dri/renderD128)" in finding.what
    assert "--vllm-gpus 1 (vllm serve --tensor-parallel-size 1)" in finding.remedy


def test_gpus_of_other_nodes_are_not_here(mi300x: MadeUp, look: Examine) -> None:
    assert look(mi300x, "facebook/opt-125m", gpus=2, args=("--nnodes=2",)) == {}


def test_heads_that_cannot_be_divided_are_refused_with_the_sizes(
    eight: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    finding = look(eight, checkpoint(GIB), gpus=6)["tp_not_dividing_heads"]
    assert finding.level == "refuse"
    assert "has 32 attention heads, which cannot be divided among 6 GPUs" in finding.what
    assert finding.remedy == (
        "Use --vllm-gpus 4 (vllm serve --tensor-parallel-size 4); possible are 1, 2, 4, 8, 16, 32."
    )


def test_on_a_cpu_the_number_of_gpus_divides_nothing(
    bare: MadeUp, look: Examine, checkpoint: Checkpoint
) -> None:
    assert look(bare, checkpoint(GIB), platform="cpu", gpus=6) == {}


def test_without_the_driver_rocm_cannot_work(bare: MadeUp, look: Examine) -> None:
    finding = look(bare, "facebook/opt-125m")["gpu_device_missing"]
    assert finding.level == "refuse"
    assert "needs /dev/kfd, and this machine has none" in finding.what


@pytest.mark.parametrize(
    ("mode", "uid", "gids", "may"),
    [
        (0o660, 1, {5}, False),
        (0o660, 1, {7, 5}, True),
        (0o660, 0, set(), True),
        (0o666, 1, set(), True),
        (0o640, 1, {7}, False),
        (0o600, 9, set(), True),
    ],
    ids=["other group", "group", "root", "everybody", "read only", "owner"],
)
def test_who_may_open_a_device(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: int,
    uid: int,
    gids: set[int],
    may: bool,
) -> None:
    node = SimpleNamespace(st_uid=9, st_gid=7, st_mode=mode)
    monkeypatch.setattr(Path, "stat", lambda self: node)
    assert may_open(tmp_path, uid, gids) is may


def test_a_process_that_may_not_open_the_device_is_told_the_group(
    mi300x: MadeUp, look: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in ("dev/kfd", "dev/dri/renderD128"):
        (mi300x.root / node).chmod(0o660)
    monkeypatch.setattr(os, "geteuid", lambda: 65533)
    monkeypatch.setattr(os, "getegid", lambda: 65533)
    monkeypatch.setattr(os, "getgroups", list)
    gid = (mi300x.root / "dev/kfd").stat().st_gid
    found = look(mi300x, "facebook/opt-125m", launcher="process")["gpu_device_permission"]
    assert found.level == "refuse"
    assert f"may not open /dev/kfd, /dev/dri/renderD128 (group {gid})" in found.what
    assert f"docker run --group-add {gid}" in found.remedy
    assert look(mi300x, "facebook/opt-125m", launcher="docker") == {}


def test_variables_that_disagree_on_the_gpus_are_refused(mi300x: MadeUp, look: Examine) -> None:
    both = {"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": "1"}
    found = look(mi300x, "facebook/opt-125m", both, launcher="process")
    assert found["gpu_visibility_conflict"].level == "refuse"
    assert look(mi300x, "facebook/opt-125m", both, launcher="docker") == {}


# --- image and model ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pull", "here", "refused"),
    [("never", False, True), ("never", True, False), ("missing", False, False)],
)
def test_an_image_that_may_not_be_pulled_must_be_here(
    mi300x: MadeUp, look: Examine, pull: str, here: bool, refused: bool
) -> None:
    found = look(mi300x, "facebook/opt-125m", pull=pull, has_image=lambda image: here)
    assert ("docker_image_missing" in found) is refused


def in_cache(home: Path, model: str, *files: str) -> None:
    """Put a model into the Hugging Face cache of a home."""
    entry = home / ".cache/huggingface/hub" / f"models--{model.replace('/', '--')}"
    touch(entry / "refs/main", "1")
    for file in files:
        touch(entry / "snapshots/1" / file, "x" * 100)


def test_offline_a_model_that_is_not_here_cannot_come(
    mi300x: MadeUp, look: Examine, tmp_path: Path
) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    found = look(mi300x, "acme/m", offline)["hf_offline_not_cached"]
    assert f"acme/m is not in {tmp_path}/home/.cache/huggingface/hub" in found.what
    in_cache(tmp_path / "home", "acme/m", "model.safetensors")
    assert look(mi300x, "acme/m", offline) == {}


def test_offline_half_a_model_is_not_enough(mi300x: MadeUp, look: Examine, tmp_path: Path) -> None:
    in_cache(tmp_path / "home", "acme/m", "a.safetensors")
    index = {"metadata": {"total_size": 5}, "weight_map": {"x": "a.safetensors", "y": "b"}}
    folder = tmp_path / "home/.cache/huggingface/hub/models--acme--m/snapshots/1"
    touch(folder / "model.safetensors.index.json", json.dumps(index))
    found = look(mi300x, "acme/m", {"HF_HUB_OFFLINE": "1"})
    assert "acme/m is not complete in" in found["hf_offline_not_cached"].what


# --- the token ---------------------------------------------------------------------------------


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that is gated by its recipe."""
    from pytest_vllm.models import recipes

    row = recipes.Recipe("acme/gated", 1, "chat", "made up", gated=True)
    monkeypatch.setattr(recipes, "recipe_for", lambda model: row)
    return "acme/gated"


def test_a_gated_model_wants_a_token(mi300x: MadeUp, look: Examine, gated: str) -> None:
    found = look(mi300x, gated)["hf_gated_no_token"]
    assert found.level == "warn"
    assert "https://huggingface.co/acme/gated" in found.remedy
    assert look(mi300x, gated, {"HF_TOKEN": "hf_x"}) == {}


def test_a_token_in_a_file_does_not_reach_a_container(
    mi300x: MadeUp, look: Examine, gated: str, tmp_path: Path
) -> None:
    file = tmp_path / "home/.cache/huggingface/token"
    touch(file, "hf_secret")
    found = look(mi300x, gated)["hf_gated_no_token"]
    assert f'export HF_TOKEN="$(cat {file})"' in found.remedy
    assert "hf_secret" not in str(found)
    assert look(mi300x, gated, launcher="process") == {}


def test_a_gated_model_that_is_here_wants_none(
    mi300x: MadeUp, look: Examine, gated: str, tmp_path: Path
) -> None:
    in_cache(tmp_path / "home", gated, "model.safetensors")
    assert look(mi300x, gated) == {}


# --- the disk ----------------------------------------------------------------------------------


@pytest.fixture
def small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(free=10 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


@pytest.mark.usefixtures("small_disk")
def test_a_download_that_does_not_fit_on_the_disk(mi300x: MadeUp, look: Examine) -> None:
    found = look(mi300x, "acme/foo-7B")["disk_full"]
    assert "acme/foo-7B is about 13.0 GiB to download (estimated from its name)" in found.what
    assert "has 10.0 GiB free" in found.what
    assert look(mi300x, "acme/foo-3B") == {}


@pytest.mark.usefixtures("small_disk")
def test_what_is_here_needs_no_room(mi300x: MadeUp, look: Examine, tmp_path: Path) -> None:
    in_cache(tmp_path / "home", "acme/foo-7B", "model.safetensors")
    assert look(mi300x, "acme/foo-7B") == {}


@pytest.mark.usefixtures("small_disk")
def test_half_a_download_needs_the_other_half(
    mi300x: MadeUp, look: Examine, tmp_path: Path
) -> None:
    blobs = tmp_path / "home/.cache/huggingface/hub/models--acme--foo-7B/blobs"
    blobs.mkdir(parents=True)
    with (blobs / "abc.incomplete").open("wb") as file:
        file.truncate(4 * GIB)
    assert look(mi300x, "acme/foo-7B") == {}


# --- ports and variables -----------------------------------------------------------------------


def test_a_service_called_vllm_is_refused(mi300x: MadeUp, look: Examine) -> None:
    kubernetes = {"VLLM_PORT": "tcp://10.0.0.1:8000"}
    found = look(mi300x, "facebook/opt-125m", kubernetes, launcher="process")
    assert found["vllm_port_env_from_kubernetes"].level == "refuse"
    assert look(mi300x, "facebook/opt-125m", kubernetes, launcher="docker") == {}


def test_a_port_of_the_users_that_is_taken_is_refused(mi300x: MadeUp, look: Examine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        args = (f"--master-port={port}",)
        found = look(mi300x, "facebook/opt-125m", launcher="process", args=args)["port_in_use"]
        assert look(mi300x, "facebook/opt-125m", launcher="docker", args=args) == {}
    assert f"--vllm-arg=--master-port={port + 1}" in found.remedy
    assert look(mi300x, "facebook/opt-125m", launcher="process", args=args) == {}
