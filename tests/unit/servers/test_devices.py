from __future__ import annotations

import os
from pathlib import Path

import pytest

from pytest_vllm.errors import LaunchError, LauncherUnavailable
from pytest_vllm.servers.devices import amd_gpus, container_devices, detect_platform
from tests.unit.machine import GIB, Machine, touch

MI300X = 206141652992


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without any GPU."""
    return Machine(tmp_path)


@pytest.fixture
def mi300x(bare: Machine) -> Machine:
    """Two CPUs and two MI300X, of which KFD has the one with the higher minor first."""
    touch(bare.root / "dev/kfd")
    for number in (0, 1):
        bare.node(number, cpu_cores_count=96, simd_count=0, drm_render_minor=0)
    bare.gpu(2, minor=136, used=100 * GIB)
    bare.gpu(10, minor=128)
    return bare


def renders(machine: Machine) -> list[str]:
    return [gpu.render for gpu in amd_gpus(machine.root)]


def passed(machine: Machine, gpus: int | None) -> list[str]:
    """The device nodes that a ROCm container sees, under the names that it sees them by."""
    devices = container_devices("rocm", gpus, machine.root).options["devices"]
    return [device.split(":")[1] for device in devices]


# --- which platform ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nodes", "platform"),
    [
        ([], "cpu"),
        (["kfd", "dri/renderD128"], "rocm"),
        (["nvidiactl"], "cuda"),
        (["nvidia0"], "cuda"),
        (["dri/renderD128"], "cpu"),
        (["kfd", "nvidia0"], "rocm"),
    ],
)
def test_the_device_nodes_say_the_platform(bare: Machine, nodes: list[str], platform: str) -> None:
    for node in nodes:
        touch(bare.root / "dev" / node)
    assert detect_platform(bare.root) == platform


# --- which GPUs --------------------------------------------------------------------------------


def test_gpus_come_in_kfd_order_and_not_in_that_of_their_minors(mi300x: Machine) -> None:
    assert renders(mi300x) == ["/dev/dri/renderD136", "/dev/dri/renderD128"]


def test_the_memory_in_use_comes_from_sysfs(mi300x: Machine) -> None:
    assert [gpu.used for gpu in amd_gpus(mi300x.root)] == [100 * GIB, 283 * 2**20]


@pytest.mark.parametrize("text", ["", "n/a"])
def test_memory_that_the_driver_does_not_tell_is_unknown(mi300x: Machine, text: str) -> None:
    touch(mi300x.root / "sys/class/drm/renderD128/device/mem_info_vram_used", text)
    assert amd_gpus(mi300x.root)[1].used is None


def test_a_gpu_whose_node_is_not_here_belongs_to_somebody_else(mi300x: Machine) -> None:
    (mi300x.root / "dev/dri/renderD136").unlink()
    assert renders(mi300x) == ["/dev/dri/renderD128"]


def test_a_node_that_cannot_be_read_is_left_out(mi300x: Machine) -> None:
    (mi300x.root / "sys/class/kfd/kfd/topology/nodes/2/properties").unlink()
    assert renders(mi300x) == ["/dev/dri/renderD128"]


def test_a_gpu_that_cannot_render_is_left_out(mi300x: Machine) -> None:
    mi300x.node(3, simd_count=1216)
    assert renders(mi300x) == ["/dev/dri/renderD136", "/dev/dri/renderD128"]


def test_without_the_topology_all_render_nodes_are_taken(bare: Machine) -> None:
    for minor in (129, 128):
        touch(bare.root / f"dev/dri/renderD{minor}")
    touch(bare.root / "dev/dri/card0")
    assert renders(bare) == ["/dev/dri/renderD128", "/dev/dri/renderD129"]


# --- how much memory they have ------------------------------------------------------------------


def test_the_driver_tells_the_total_and_so_what_is_free(mi300x: Machine) -> None:
    mi300x.vram(128, total=MI300X, used=MI300X - 5 * GIB)
    gpu = amd_gpus(mi300x.root)[1]
    assert (gpu.total, gpu.free) == (MI300X, 5 * GIB)


def test_without_a_total_nobody_knows_what_is_free(mi300x: Machine) -> None:
    assert [gpu.free for gpu in amd_gpus(mi300x.root)] == [None, None]


def test_a_part_of_a_card_has_its_own_size_and_a_use_that_nobody_knows(mi300x: Machine) -> None:
    mi300x.vram(128, total=8 * 24 * GIB, used=GIB)
    mi300x.bank(10, size=24 * GIB)
    gpu = amd_gpus(mi300x.root)[1]
    assert (gpu.total, gpu.used) == (24 * GIB, None)


def test_banks_of_other_memory_do_not_count(mi300x: Machine) -> None:
    mi300x.bank(10, size=24 * GIB, number=0)
    mi300x.bank(10, size=512 * GIB, number=1, heap_type=0)
    assert amd_gpus(mi300x.root)[1].total == 24 * GIB


@pytest.mark.parametrize(
    ("version", "arch"),
    [(90402, "gfx942"), (90500, "gfx950"), (90010, "gfx90a"), (110000, "gfx1100"), (0, "")],
)
def test_the_architecture_is_named_as_compilers_do(bare: Machine, version: int, arch: str) -> None:
    bare.node(1, simd_count=1, gfx_target_version=version, drm_render_minor=128)
    touch(bare.root / "dev/dri/renderD128")
    assert amd_gpus(bare.root)[0].arch == arch


def test_without_the_topology_the_driver_still_tells_the_memory(bare: Machine) -> None:
    touch(bare.root / "dev/dri/renderD128")
    bare.vram(128, total=16 * GIB, used=GIB)
    assert amd_gpus(bare.root)[0].free == 15 * GIB


# --- what a container gets ---------------------------------------------------------------------


def test_without_a_number_all_gpus_are_passed(mi300x: Machine) -> None:
    assert passed(mi300x, None) == ["/dev/kfd", "/dev/dri/renderD136", "/dev/dri/renderD128"]


def test_with_a_number_the_emptiest_gpus_are_passed(mi300x: Machine) -> None:
    assert passed(mi300x, 1) == ["/dev/kfd", "/dev/dri/renderD128"]


def test_a_gpu_of_unknown_use_is_taken_last(mi300x: Machine) -> None:
    mi300x.gpu(3, minor=144, used=None)
    assert passed(mi300x, 2) == ["/dev/kfd", "/dev/dri/renderD136", "/dev/dri/renderD128"]


def test_chosen_gpus_stay_in_kfd_order(mi300x: Machine) -> None:
    mi300x.gpu(11, minor=144, used=0)
    assert passed(mi300x, 2) == ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD144"]


def test_a_node_keeps_its_name_inside_and_may_be_read_and_written(mi300x: Machine) -> None:
    options = container_devices("rocm", None, mi300x.root).options
    assert options["devices"][0] == f"{mi300x.root}/dev/kfd:/dev/kfd:rwm"


def test_the_container_joins_the_owning_groups_by_number(mi300x: Machine) -> None:
    groups = container_devices("rocm", None, mi300x.root).options["group_add"]
    assert groups == [str(os.stat(mi300x.root / "dev/kfd").st_gid)]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a file away")
def test_each_group_is_joined_once(mi300x: Machine) -> None:
    for node, group in (("kfd", 109), ("dri/renderD128", 44), ("dri/renderD136", 109)):
        os.chown(mi300x.root / "dev" / node, 0, group)
    groups = container_devices("rocm", None, mi300x.root).options["group_add"]
    assert sorted(groups, key=int) == ["44", "109"]


def test_rocm_needs_what_vllm_documents(mi300x: Machine) -> None:
    options = container_devices("rocm", None, mi300x.root).options
    assert options["cap_add"] == ["SYS_PTRACE"]
    assert options["security_opt"] == ["seccomp=unconfined"]


@pytest.mark.parametrize("platform", ["rocm", "cuda", "cpu"])
def test_shared_memory_is_the_hosts_or_has_a_size_and_never_both(
    mi300x: Machine, platform: str
) -> None:
    options = container_devices(platform, None, mi300x.root).options
    assert (options.get("ipc_mode") == "host") != ("shm_size" in options)


@pytest.mark.parametrize(("gpus", "count"), [(None, -1), (2, 2)])
def test_cuda_asks_the_engine_for_gpus(bare: Machine, gpus: int | None, count: int) -> None:
    (request,) = container_devices("cuda", gpus, bare.root).options["device_requests"]
    assert (request["Count"], request["Capabilities"]) == (count, [["gpu"]])


def test_a_cpu_container_gets_no_device(mi300x: Machine) -> None:
    assert container_devices("cpu", None, mi300x.root).options == {"shm_size": "1g"}


# --- what is missing ---------------------------------------------------------------------------


def test_without_dev_kfd_rocm_is_unavailable(bare: Machine) -> None:
    touch(bare.root / "dev/dri/renderD128")
    with pytest.raises(LauncherUnavailable, match="needs /dev/kfd, and this machine has none"):
        container_devices("rocm", None, bare.root)


def test_without_a_render_node_rocm_is_unavailable(bare: Machine) -> None:
    touch(bare.root / "dev/kfd")
    with pytest.raises(LauncherUnavailable, match="no render node"):
        container_devices("rocm", None, bare.root)


def test_more_gpus_than_there_are_is_an_error_with_the_list(mi300x: Machine) -> None:
    with pytest.raises(LaunchError, match=r"has: 2 .*renderD136, /dev/dri/renderD128"):
        container_devices("rocm", 3, mi300x.root)
