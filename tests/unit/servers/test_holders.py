from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vllm.servers import nvidia
from pytest_vllm.servers.devices import Gpu, amd_gpus
from pytest_vllm.servers.holders import holders
from tests.unit.machine import GIB, Machine, touch

CONTAINER = "5f" * 32


@pytest.fixture
def mi300x(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.gpu(2, minor=128)
    return machine


def who(machine: Machine) -> list[str]:
    (gpu,) = amd_gpus(machine.root)
    return [str(holder) for holder in holders(gpu, machine.root)]


def test_processes_come_by_what_they_hold(mi300x: Machine) -> None:
    mi300x.holder(12, 2, 3 * GIB, "python3")
    mi300x.holder(7, 2, 91 * GIB, "vllm")
    assert who(mi300x) == ["vllm (pid 7): 91.0 GiB", "python3 (pid 12): 3.0 GiB"]


@pytest.mark.parametrize(
    "cgroup",
    [f"0::/system.slice/docker-{CONTAINER}.scope\n", f"12:memory:/docker/{CONTAINER}\n"],
)
def test_the_container_of_a_process_is_named(mi300x: Machine, cgroup: str) -> None:
    mi300x.holder(7, 2, GIB, "vllm", cgroup)
    assert who(mi300x) == [f"vllm (pid 7) in container {CONTAINER[:12]}: 1.0 GiB"]


def test_a_container_has_the_name_that_its_engine_knows(mi300x: Machine) -> None:
    mi300x.holder(7, 2, GIB, "vllm", f"0::/docker/{CONTAINER}")
    (gpu,) = amd_gpus(mi300x.root)
    (holder,) = holders(gpu, mi300x.root, lambda number: f"eager_bell ({number})")
    assert holder.container == f"eager_bell ({CONTAINER[:12]})"


def test_another_gpu_is_somebody_elses(mi300x: Machine) -> None:
    mi300x.holder(7, 3, GIB, "vllm")
    assert who(mi300x) == []


def test_an_idle_context_is_not_worth_naming(mi300x: Machine) -> None:
    mi300x.holder(7, 2, 20 * 2**20, "rocm-smi")
    assert who(mi300x) == []


def test_a_process_that_ended_meanwhile_is_left_out(mi300x: Machine) -> None:
    touch(mi300x.root / "sys/class/kfd/kfd/proc/9/vram_51002", "")
    assert who(mi300x) == []


# --- NVIDIA ------------------------------------------------------------------------------------


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up nvidia-smi with two GPUs, of which one shares its memory with the host."""
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase $1 in\n"
        "*compute*) echo 'GPU-a, 41, 2048';;\n"
        "*) echo 'GPU-a, NVIDIA H100, 81559, 2100'; echo 'GPU-b, GB10, [N/A], [N/A]';;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")


@pytest.mark.usefixtures("smi")
def test_nvidia_smi_tells_the_memory() -> None:
    first, second = nvidia.gpus()
    assert (first.total, first.used, first.arch) == (81559 * 2**20, 2100 * 2**20, "NVIDIA H100")
    assert (second.total, second.free) == (None, None)


@pytest.mark.usefixtures("smi")
def test_nvidia_smi_tells_who_holds_it(tmp_path: Path) -> None:
    touch(tmp_path / "proc/41/comm", "python\n")
    assert str(holders(Gpu("GPU-a", 1), tmp_path)[0]) == "python (pid 41): 2.0 GiB"
    assert holders(Gpu("GPU-b", 1), tmp_path) == []


def test_without_nvidia_smi_there_is_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert nvidia.gpus() == []
