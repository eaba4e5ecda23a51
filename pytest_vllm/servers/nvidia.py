"""NVIDIA GPUs, as nvidia-smi tells of them; without it nothing is known."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

from pytest_vllm.servers.devices import Gpu

_MIB = 2**20
_LIMIT_S = 10


@dataclass(frozen=True)
class Process:
    """A process that holds GPU memory."""

    gpu: str
    pid: int
    bytes: int


def gpus() -> list[Gpu]:
    """The GPUs in nvidia-smi's order; `render` is the UUID, which no other GPU has."""
    rows = _ask("--query-gpu=uuid,name,memory.total,memory.used")
    return [Gpu(uuid, _bytes(used), _bytes(total), name) for uuid, name, total, used in rows]


def processes() -> list[Process]:
    """Who holds how much of which GPU."""
    rows = _ask("--query-compute-apps=gpu_uuid,pid,used_memory")
    return [Process(uuid, int(pid), _bytes(used) or 0) for uuid, pid, used in rows if pid.isdigit()]


def _ask(query: str) -> list[list[str]]:
    if (program := shutil.which("nvidia-smi")) is None:
        return []
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    width = query.count(",") + 1
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == width]


def _bytes(mebibytes: str) -> int | None:
    """`[N/A]` where the memory is shared with the host."""
    return int(mebibytes) * _MIB if mebibytes.isdigit() else None
