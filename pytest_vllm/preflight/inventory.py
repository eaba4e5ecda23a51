"""What `doctor` tells of a machine and of a model: facts, one line each."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.errors import LaunchError, LauncherUnavailable
from pytest_vllm.preflight.download import free_disk, token_file
from pytest_vllm.preflight.gpus import group_name, may_open
from pytest_vllm.preflight.memory import available_ram, gib, gpus_needed
from pytest_vllm.servers.devices import Gpu, amd_gpus
from pytest_vllm.servers.holders import holders

if TYPE_CHECKING:
    from pytest_vllm.preflight.plan import Plan

Row = tuple[str, str]

_PLUGINS = ("pytest-vllm", "pytest-timeout", "pytest-xdist", "pytest-asyncio", "huggingface_hub")


def software(config: pytest.Config) -> Iterator[Row]:
    """Python, pytest, plugins, and the time limits that they set."""
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "pytest", pytest.__version__
    for name in _PLUGINS:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name, "not installed"
    timeout = config.getoption("timeout", None) or os.environ.get("PYTEST_TIMEOUT")
    if config.pluginmanager.hasplugin("timeout"):
        timeout = timeout or config.getini("timeout")
        only = " (fixtures not counted)" if config.getini("timeout_func_only") else ""
        yield "time limit", f"{timeout} s per test{only}" if timeout else "none per test"


def engine() -> Row:
    """Whether a container engine answers, and which."""
    from pytest_vllm.servers.docker_errors import connect

    try:
        client = connect()
    except LauncherUnavailable as error:
        return "engine", str(error).replace("\n", " ")
    try:
        return "engine", f"Docker {client.version().get('Version', '?')} at {client.api.base_url}"
    finally:
        client.close()


def local_vllm(python: str | None) -> Row:
    """The vLLM of the interpreter that the process launcher would take."""
    from pytest_vllm.servers.process import version_of

    interpreter = str(Path(python or sys.executable).expanduser())
    try:
        return "local vLLM", f"{version_of(interpreter)} ({interpreter})"
    except LaunchError as error:
        return "local vLLM", str(error).splitlines()[0]


def hardware(root: Path, name_of: Callable[[str], str]) -> Iterator[Row]:
    """Driver, device nodes, GPUs and who holds their memory, and the machine's own memory."""
    driver = root / "sys/module/amdgpu/version"
    if driver.exists() or (root / "sys/module/amdgpu").exists():
        yield "driver", f"amdgpu {_text(driver) or 'of the kernel'} (Linux {platform.release()})"
    if nvidia := _text(root / "proc/driver/nvidia/version"):
        yield "driver", nvidia.splitlines()[0]
    yield from _nodes(root)
    for number, gpu in enumerate(_gpus(root)):
        size = f"{gib(gpu.total)}" if gpu.total else "size unknown"
        free = f"{gib(gpu.free)} free" if gpu.free is not None else "use unknown"
        who = [str(holder) for holder in holders(gpu, root, name_of)]
        held = f"; held by {'; '.join(who)}" if who else ""
        yield f"GPU {number}", f"{gpu.render} {gpu.arch} {size}, {free}{held}".replace("  ", " ")
    left = available_ram(root)
    yield "memory", f"{gib(left)} available" if left is not None else "unknown"
    if _text(root / "proc/sys/kernel/numa_balancing") == "1" and (root / "dev/kfd").exists():
        yield "numa", "balancing is on: sudo sysctl kernel.numa_balancing=0 is what AMD advises"


def _gpus(root: Path) -> list[Gpu]:
    from pytest_vllm.servers import nvidia

    return amd_gpus(root) + (nvidia.gpus() if root == Path("/") else [])


def _nodes(root: Path) -> Iterator[Row]:
    nodes = [root / "dev/kfd", *sorted((root / "dev/dri").glob("renderD*"))]
    there = [node for node in nodes if node.exists()]
    if not there:
        yield "devices", "no /dev/kfd and no /dev/dri/renderD*: no AMD GPU that is ready for use"
    for node in there:
        about = node.stat()
        may = may_open(node, os.geteuid(), {os.getegid(), *os.getgroups()})
        group = f"group {about.st_gid} ({group_name(about.st_gid)})"
        yield (
            "device",
            f"/{node.relative_to(root)} {stat.filemode(about.st_mode)} {group}, "
            f"{'may' if may else 'may NOT'} be opened by this user",
        )


def storage(cache_dir: Path, environ: Mapping[str, str]) -> Iterator[Row]:
    """The Hugging Face cache, the room in it, and whether there is a token."""
    models = len(list(cache_dir.glob("models--*"))) if cache_dir.is_dir() else 0
    yield "cache", f"{cache_dir}, {models} models, {gib(free_disk(cache_dir))} free"
    file = token_file(environ)
    where = "yes, in HF_TOKEN" if environ.get("HF_TOKEN") else f"yes, in {file}" if file else "no"
    yield "token", f"{where} (Hugging Face)"


def model(plan: Plan) -> Iterator[Row]:
    """What is known of a model, and what it needs."""
    known = plan.model
    where = f"in {known.folder}" if known.folder else "not on this machine"
    yield "files", where if known.complete or not known.folder else f"{where}, not complete"
    if known.weights:
        yield "weights", f"{gib(known.weights.loaded)} ({known.weights.source})"
    else:
        yield "weights", "unknown: neither files nor a recipe, and its name says no size"
    if plan.kv_cache and plan.length:
        size = plan.kv_cache.request_bytes(plan.length)
        where = "on each GPU " if plan.on_gpu else ""
        yield "KV cache", f"{gib(size)} {where}for one request of {plan.length} tokens"
    if known.geometry:
        yield "heads", f"{known.geometry.heads} for attention, {known.geometry.kv_heads} for keys"
    if plan.on_gpu:
        needed = gpus_needed(plan)
        said = f"{needed} needed" if needed else "how many it needs is not known"
        here = f"{len(plan.all_gpus)} here" if plan.all_gpus else "none can be seen here"
        yield "GPUs", f"{plan.world} asked for, {said}, {here}"
    yield "share", plan.util_said if plan.on_gpu else "none: it runs on the CPU"
    if plan.spec.image:
        yield "image", f"{plan.spec.image}, {_image(plan)}"


def _image(plan: Plan) -> str:
    has = plan.machine.has_image
    if has is None:
        return "not looked for"
    return "here" if has(plan.spec.image or "") else f"not here (--vllm-pull {plan.machine.pull})"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
