"""Are there enough GPUs, do they divide the heads, and may they be used?"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pytest_vllm.preflight.finding import Finding
from pytest_vllm.preflight.memory import gpu_word, gpus_needed
from pytest_vllm.preflight.plan import VISIBLE, Plan
from pytest_vllm.servers import argv

_ELSEWHERE = ("--nnodes", "--distributed-executor-backend", "--node-rank")


def there_are_enough(plan: Plan) -> Iterator[Finding]:
    """A model that is divided among more GPUs than there are cannot start."""
    here = len(plan.all_gpus)
    if not here or plan.world <= here or argv.has_flag(plan.spec.args, *_ELSEWHERE):
        return
    needed = gpus_needed(plan)
    fits = needed is not None and needed <= here
    remedy = f"Use --vllm-gpus {here if not fits else needed}"
    yield Finding(
        "refuse",
        "tp_exceeds_gpus",
        f"{plan.spec.model} is to run on {gpu_word(plan.world)}, and this machine has {here} "
        f"({', '.join(gpu.render for gpu in plan.all_gpus)}).",
        f"{remedy} (vllm serve --tensor-parallel-size {here if not fits else needed})."
        if fits or needed is None
        else f"{plan.spec.model} needs {gpu_word(needed or 0)}: choose a larger machine.",
        {"gpus": plan.world, "gpus_here": here, "gpus_needed": needed},
    )


def they_divide_the_heads(plan: Plan) -> Iterator[Finding]:
    """vLLM gives each GPU as many attention heads as any other."""
    geometry = plan.model.geometry
    if geometry is None or plan.tp == 1 or argv.has_flag(plan.spec.args, "--hf-overrides"):
        return
    if geometry.heads % plan.tp:
        sizes = [n for n in (1, 2, 4, 8, 16, 32) if geometry.heads % n == 0]
        best = max((n for n in sizes if n <= plan.tp), default=1)
        yield Finding(
            "refuse",
            "tp_not_dividing_heads",
            f"{plan.spec.model} has {geometry.heads} attention heads, which cannot be "
            "divided among "
            f"{gpu_word(plan.tp)}.",
            f"Use --vllm-gpus {best} (vllm serve --tensor-parallel-size {best}); possible are "
            f"{', '.join(map(str, sizes))}.",
            {"attention_heads": geometry.heads, "tensor_parallel_size": plan.tp, "valid": sizes},
        )


def they_may_be_used(plan: Plan) -> Iterator[Finding]:
    """A process needs the device nodes and the right to open them; a container gets both."""
    if plan.spec.platform != "rocm" or not plan.on_gpu:
        return
    root = plan.machine.root
    if not (root / "dev/kfd").exists():
        yield Finding(
            "refuse",
            "gpu_device_missing",
            "The ROCm platform needs /dev/kfd, and this machine has none.",
            "Load the driver (sudo modprobe amdgpu; ls -l /dev/kfd), or choose "
            "--vllm-platform cuda "
            "or cpu.",
        )
    elif plan.spec.launcher == "process":
        yield from _permission(plan, root, os.geteuid(), {os.getegid(), *os.getgroups()})


def _permission(plan: Plan, root: Path, uid: int, gids: Collection[int]) -> Iterator[Finding]:
    nodes = ["/dev/kfd", *(gpu.render for gpu in plan.all_gpus)]
    closed = [n for n in nodes if not may_open(root / n.lstrip("/"), uid, gids)]
    if closed:
        groups = sorted({(root / n.lstrip("/")).stat().st_gid for n in closed})
        numbers = ", ".join(map(str, groups))
        yield Finding(
            "refuse",
            "gpu_device_permission",
            f"This user may not open {', '.join(closed)} (group {numbers}).",
            f"Join the group: sudo usermod -aG {group_name(groups[0])} $USER, and log in again "
            f"(docker run --group-add {groups[0]}).",
            {"gids": groups},
        )


def may_open(path: Path, uid: int, gids: Collection[int]) -> bool:
    """Whether a user may read and write a node, by its mode."""
    about = path.stat()
    shift = 6 if about.st_uid == uid else 3 if about.st_gid in gids else 0
    return uid == 0 or (about.st_mode >> shift) & 6 == 6


def group_name(gid: int) -> str:
    """The group's name on this machine, else its number."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def they_are_named_once(plan: Plan) -> Iterator[Finding]:
    """vLLM on ROCm wants HIP_ and CUDA_VISIBLE_DEVICES to agree (platforms/rocm.py)."""
    if plan.spec.platform != "rocm":
        return
    values = {name: plan.environ[name] for name in VISIBLE[1:] if plan.environ.get(name)}
    if len(set(values.values())) > 1:
        said = " and ".join(f"{name}={value}" for name, value in values.items())
        yield Finding(
            "refuse",
            "gpu_visibility_conflict",
            f"{said} disagree, and vLLM takes neither.",
            f"Unset one of them: env -u {VISIBLE[2]} pytest … (docker run without -e "
            f"{VISIBLE[2]}).",
            dict(values),
        )
