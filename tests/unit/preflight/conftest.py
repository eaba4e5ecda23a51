from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.preflight import Finding, Machine, examine
from pytest_vllm.spec import ServerSpec
from tests.unit.machine import GIB, touch
from tests.unit.machine import Machine as MadeUp

MI300X = 206141652992

Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def bare(tmp_path: Path) -> MadeUp:
    """A machine without any GPU, and 24 GiB of memory left."""
    machine = MadeUp(tmp_path / "root")
    machine.memory(24 * GIB)
    return machine


@pytest.fixture
def mi300x(bare: MadeUp) -> MadeUp:
    """A machine with one MI300X, which nobody uses."""
    touch(bare.root / "dev/kfd")
    add_gpu(bare, 2, 128)
    return bare


def add_gpu(machine: MadeUp, node: int, minor: int) -> None:
    machine.gpu(node, minor)
    machine.vram(minor, total=MI300X)


@pytest.fixture
def eight(mi300x: MadeUp) -> MadeUp:
    """A machine with eight of them."""
    for number in range(1, 8):
        add_gpu(mi300x, 2 + number, 128 + 8 * number)
    return mi300x


@pytest.fixture
def look(tmp_path: Path) -> Examine:
    """Look at a spec on a machine: findings by their cause."""

    def call(
        machine: MadeUp, model: str, environ: dict[str, str] | None = None, **given: Any
    ) -> Any:
        about = {k: given.pop(k) for k in ("pull", "has_image") if k in given}
        given = {"launcher": "docker", "platform": "rocm", "image": "x:1"} | given
        ours = {"HOME": str(tmp_path / "home")} | (environ or {})
        where = Machine(machine.root, ours, name_of=lambda number: number, **about)
        findings = examine(ServerSpec(model, **given), where)
        assert len({f.cause for f in findings}) == len(findings)
        return {finding.cause: finding for finding in findings}

    return call


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[..., str]:
    """Write a model's folder: its config, and weights of any size that take no room on the disk."""

    def write(size: int, **config: Any) -> str:
        folder = tmp_path / "checkpoint"
        folder.mkdir()
        about: dict[str, Any] = {
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_hidden_layers": 32,
        }
        about |= {"hidden_size": 4096, "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}
        (folder / "config.json").write_text(json.dumps(about | config))
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(size)  # a hole
        return str(folder)

    return write
