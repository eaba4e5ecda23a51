"""Who holds GPU memory: processes by the driver's own books, and their containers.

/sys/class/kfd/kfd/proc/<pid>/vram_<gpu id>     bytes, world-readable
/proc/<pid>/cgroup                              the container's id, if there is one
/proc/<pid>/comm                                the name
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vllm.servers.devices import Gpu

#: Container id -> name.
Names = Callable[[str], str]

#: Less than this is the driver's own, or an idle context.
_WORTH_NAMING = 64 * 2**20


@dataclass(frozen=True)
class Holder:
    """A process that holds memory of a GPU.

    Attributes:
        pid: Its number on the host.
        name: Of its program.
        container: Id, or name where somebody knows it; "" outside of containers.
        bytes: What it holds.
    """

    pid: int
    name: str
    container: str
    bytes: int

    def __str__(self) -> str:
        where = f" in container {self.container}" if self.container else ""
        return f"{self.name or 'a process'} (pid {self.pid}){where}: {self.bytes / 2**30:.1f} GiB"


def holders(gpu: Gpu, root: Path = Path("/"), name_of: Names | None = None) -> list[Holder]:
    """Everybody who holds more than a little of a GPU, the largest first."""
    found = _of_nvidia(gpu) if gpu.kfd_id is None else _of_kfd(gpu.kfd_id, root)
    known = [_described(pid, held, root) for pid, held in found if held >= _WORTH_NAMING]
    if name_of is not None:
        known = [replace(h, container=name_of(h.container)) if h.container else h for h in known]
    return sorted(known, key=lambda holder: -holder.bytes)


def _of_kfd(kfd_id: int, root: Path) -> Iterable[tuple[int, int]]:
    for file in (root / "sys/class/kfd/kfd/proc").glob(f"[0-9]*/vram_{kfd_id}"):
        try:
            yield int(file.parent.name), int(file.read_text())
        except (OSError, ValueError):  # it ended meanwhile
            continue


def _of_nvidia(gpu: Gpu) -> Iterable[tuple[int, int]]:
    from pytest_vllm.servers import nvidia

    if not gpu.render.startswith("GPU-"):
        return []
    return [(p.pid, p.bytes) for p in nvidia.processes() if p.gpu == gpu.render]


def _described(pid: int, held: int, root: Path) -> Holder:
    group = _text(root / f"proc/{pid}/cgroup")
    container = re.search(r"\b([0-9a-f]{64})\b", group)
    name = _text(root / f"proc/{pid}/comm").strip()
    return Holder(pid, name, container[1][:12] if container else "", held)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def docker_names(container_id: str) -> str:
    """`id` -> `name (id)`, if Docker knows it; the engine is asked for 2 s at most."""
    import docker

    from pytest_vllm.errors import LauncherUnavailable
    from pytest_vllm.servers.docker_errors import connect

    try:
        client = connect(timeout_s=2)
    except LauncherUnavailable:
        return container_id
    try:
        return f"{client.containers.get(container_id).name} ({container_id})"
    except (docker.errors.DockerException, OSError):
        return container_id
    finally:
        client.close()
