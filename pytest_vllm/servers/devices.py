"""rocm, cuda or cpu: which GPUs this machine has, and which container options expose them.

Everything is read from sysfs and /dev, so that no ROCm tool is needed, and below a `root`, so
that a made-up tree can stand in for a machine.
Sources: the kernel's amdkfd topology; AMD's page on isolating GPUs; vLLM's ROCm page.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_vllm.errors import LaunchError, LauncherUnavailable

_ROOT = Path("/")


@dataclass(frozen=True)
class Gpu:
    """One AMD GPU (or partition of one) in KFD order.

    Attributes:
        render: Its device node, `/dev/dri/renderD128`.
        used: Bytes of VRAM in use, None where the driver does not say.
        total: Bytes of VRAM, None where the driver does not say.
        arch: `gfx942`, "" where the driver does not say.
        kfd_id: Its number in KFD, under which processes hold its memory.
    """

    render: str
    used: int | None
    total: int | None = None
    arch: str = ""
    kfd_id: int | None = None

    @property
    def free(self) -> int | None:
        """Bytes of VRAM that nobody uses."""
        return None if self.total is None or self.used is None else self.total - self.used


@dataclass(frozen=True)
class ContainerDevices:
    """What a container needs to see the GPUs, in the Docker SDK's own words."""

    options: dict[str, Any] = field(default_factory=dict)


def detect_platform(root: Path = _ROOT) -> str:
    """Say `rocm`, `cuda` or `cpu`, by the device nodes of this machine."""
    if (root / "dev/kfd").exists():
        return "rocm"
    if (root / "dev/nvidiactl").exists() or (root / "dev/nvidia0").exists():
        return "cuda"
    return "cpu"


def amd_gpus(root: Path = _ROOT) -> list[Gpu]:
    """List the AMD GPUs in KFD order, which is not the order of the device numbers.

    Without the KFD topology (another driver, a container) all render nodes are taken.
    """
    gpus = list(_kfd_gpus(root))
    return gpus or [
        Gpu(f"/dev/dri/{p.name}", _vram(root, p.name, "used"), _vram(root, p.name, "total"))
        for p in sorted(_render_nodes(root))
    ]


def container_devices(platform: str, gpus: int | None, root: Path = _ROOT) -> ContainerDevices:
    """Options of `docker run` for a platform; `gpus` None means all of them.

    `--ipc=host` is for tensor parallelism, which shares memory between processes; a CPU
    server needs 1 GiB of /dev/shm, since vLLM refuses Docker's 64 MB. Never both: engines
    reject that.

    Raises:
        LauncherUnavailable: The platform's device nodes are not on this machine.
        LaunchError: It has fewer GPUs than asked for.
    """
    if platform == "rocm":
        return ContainerDevices(_rocm(gpus, root))
    if platform == "cuda":
        request = {"Driver": "", "Count": gpus or -1, "Capabilities": [["gpu"]]}
        return ContainerDevices({"device_requests": [request], "ipc_mode": "host"})
    return ContainerDevices({"shm_size": "1g"})


def _rocm(gpus: int | None, root: Path) -> dict[str, Any]:
    if not (root / "dev/kfd").exists():
        raise LauncherUnavailable(
            "The ROCm platform needs /dev/kfd, and this machine has none.\n"
            "Either the amdgpu driver is not loaded (`sudo modprobe amdgpu`, `ls -l /dev/kfd`), or "
            "there is no AMD GPU here: choose --vllm-platform cuda or --vllm-platform cpu."
        )
    nodes = [gpu.render for gpu in chosen(amd_gpus(root), gpus)]
    if not nodes:
        raise LauncherUnavailable(
            "/dev/kfd is here, but no render node /dev/dri/renderD* that belongs to a GPU.\n"
            "Look at `ls -l /dev/dri` and `dmesg | grep amdgpu`."
        )
    inside = ["/dev/kfd", *nodes]
    return {
        "devices": [f"{_host(path, root)}:{path}:rwm" for path in inside],
        # The owners' numbers, not names: a name is looked up inside the image, where `render`
        # may be missing or another number.
        "group_add": sorted({str(os.stat(_host(path, root)).st_gid) for path in inside}),
        "ipc_mode": "host",
        "cap_add": ["SYS_PTRACE"],
        "security_opt": ["seccomp=unconfined"],
    }


def chosen(gpus: list[Gpu], wanted: int | None) -> list[Gpu]:
    """The GPUs that a container gets: all, or the `wanted` ones with the least memory in use.

    Raises:
        LaunchError: There are not so many.
    """
    if wanted is None:
        return gpus
    if wanted > len(gpus):
        raise LaunchError(
            f"--vllm-gpus {wanted} asks for more GPUs than this machine has: {len(gpus)} "
            f"({', '.join(g.render for g in gpus) or 'none'})."
        )
    # Where the driver does not say, the memory may be full: such a GPU comes last.
    emptiest = sorted(gpus, key=lambda gpu: (gpu.used is None, gpu.used or 0))[:wanted]
    return [gpu for gpu in gpus if gpu in emptiest]


def _host(path: str, root: Path) -> str:
    return str(root / path.lstrip("/"))


def _render_nodes(root: Path) -> Iterator[Path]:
    return (root / "dev/dri").glob("renderD*")


def _kfd_gpus(root: Path) -> Iterator[Gpu]:
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    if not nodes.is_dir():
        return
    for node in sorted(nodes.iterdir(), key=lambda p: int(p.name)):
        facts = _properties(node / "properties")
        # A CPU node has no SIMDs; a GPU of another container cannot be read at all.
        if not facts.get("simd_count") or "drm_render_minor" not in facts:
            continue
        name = f"renderD{facts['drm_render_minor']}"
        if (root / "dev/dri" / name).exists():
            yield _gpu(root, node, name, facts)


def _gpu(root: Path, node: Path, name: str, facts: dict[str, int]) -> Gpu:
    card, own = _vram(root, name, "total"), _bank_bytes(node)
    # The driver tells of a partitioned card as a whole: what one part of it uses, nobody knows.
    is_partition = card is not None and own is not None and card > 1.5 * own
    return Gpu(
        f"/dev/dri/{name}",
        None if is_partition else _vram(root, name, "used"),
        own if is_partition or card is None else card,
        _arch(facts.get("gfx_target_version", 0)),
        _number(node / "gpu_id"),
    )


def _arch(version: int) -> str:
    """90402 -> gfx942: the last two of three numbers are hexadecimal digits."""
    major, minor, step = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{step:x}" if version else ""


def _bank_bytes(node: Path) -> int | None:
    """Bytes of the VRAM banks of a KFD node (heap types 1 and 2)."""
    banks = map(_properties, (node / "mem_banks").glob("*/properties"))
    return sum(b.get("size_in_bytes", 0) for b in banks if b.get("heap_type") in (1, 2)) or None


def _vram(root: Path, name: str, which: str) -> int | None:
    return _number(root / f"sys/class/drm/{name}/device/mem_info_vram_{which}")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _properties(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {p[0]: int(p[1]) for p in pairs if len(p) == 2 and p[1].lstrip("-").isdigit()}
