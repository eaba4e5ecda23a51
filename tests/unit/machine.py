"""A machine that is made up: sysfs, /proc and /dev below a folder."""

from __future__ import annotations

from pathlib import Path

GIB = 2**30


def touch(path: Path, text: str = "") -> None:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Machine:
    """A made-up sysfs and /dev below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def node(self, number: int, **properties: int) -> None:
        """Add a node of the KFD topology."""
        lines = "local_mem_size\nname gfx 942\nmarketing_name MI300X\n"
        lines += "".join(f"{name} {value}\n" for name, value in properties.items())
        touch(self._node(number) / "properties", lines)

    def gpu(self, number: int, minor: int, used: int | None = 283 * 2**20) -> None:
        """Add an MI300X: its KFD node, its render node, and its memory in use."""
        self.node(number, simd_count=1216, gfx_target_version=90402, drm_render_minor=minor)
        touch(self._node(number) / "gpu_id", f"{51000 + number}\n")
        touch(self.root / f"dev/dri/renderD{minor}")
        if used is not None:
            self.vram(minor, used=used)

    def vram(self, minor: int, **sizes: int) -> None:
        """Say how much memory a card has, or uses: `total`, `used`."""
        for which, size in sizes.items():
            device = self.root / f"sys/class/drm/renderD{minor}/device"
            touch(device / f"mem_info_vram_{which}", f"{size}\n")

    def bank(self, node: int, size: int, number: int = 0, heap_type: int = 1) -> None:
        """Add a memory bank to a KFD node."""
        lines = f"heap_type {heap_type}\nsize_in_bytes {size}\nflags 0\n"
        touch(self._node(node) / f"mem_banks/{number}/properties", lines)

    def holder(self, pid: int, node: int, size: int, name: str = "", cgroup: str = "") -> None:
        """Let a process hold memory of the GPU of a KFD node."""
        touch(self.root / f"sys/class/kfd/kfd/proc/{pid}/vram_{51000 + node}", f"{size}\n")
        touch(self.root / f"proc/{pid}/comm", f"{name}\n")
        touch(self.root / f"proc/{pid}/cgroup", cgroup)

    def memory(self, available: int) -> None:
        """Say how much of the machine's own memory is left."""
        touch(self.root / "proc/meminfo", f"MemTotal: 1 kB\nMemAvailable: {available // 1024} kB\n")

    def _node(self, number: int) -> Path:
        return self.root / f"sys/class/kfd/kfd/topology/nodes/{number}"
