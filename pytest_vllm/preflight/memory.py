"""Do weights and KV cache fit, and is that memory free right now?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vllm.diagnosis.rules.memory import safe_utilization
from pytest_vllm.models.memory import GIB, OVERHEAD, Weights
from pytest_vllm.preflight.finding import Finding
from pytest_vllm.servers import argv
from pytest_vllm.servers.holders import holders

if TYPE_CHECKING:
    from pytest_vllm.preflight.plan import Plan
    from pytest_vllm.servers.devices import Gpu

#: Flags that change how much a GPU holds in ways that nobody computes here.
_CHANGES_THE_SUM = (
    *("--cpu-offload-gb", "--offload-backend", "--quantization", "-q", "--load-format"),
    *("--hf-overrides", "--kv-cache-memory-bytes", "--num-gpu-blocks-override"),
    *("--speculative-config", "--nnodes", "--distributed-executor-backend"),
)
_SIZES = (1, 2, 4, 8, 16, 32)

#: MI300X, for which the recipes name GPU counts.
_RECIPE_GPU = 200 * GIB


def gib(size: float) -> str:
    """For people."""
    if size < GIB:
        return f"{size / 2**20:.1f} MiB"
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"


def gpu_word(count: int) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{count} GPU{'s' if count != 1 else ''}"


def _each(count: int) -> str:
    return "its GPU" if count == 1 else f"each of {count} GPUs"


def weights_fit(plan: Plan) -> Iterator[Finding]:
    """Weights that are larger than all of the GPUs cannot be served."""
    weights, total = plan.model.weights, plan.gpu_bytes
    if not _computable(plan) or weights is None:
        return
    if total is None:
        yield from _fewer_than_the_recipe(plan)
        return
    if weights.per_gpu(plan.world) <= total:
        return
    # A size that only the name tells may be far off: quantized models do not always say so.
    by_name = not weights.certain and plan.model.recipe is None
    have = f"{gpu_word(plan.world)} of {gib(total)} {'has' if plan.world == 1 else 'have'}"
    yield Finding(
        "warn" if by_name else "refuse",
        "oom_loading_weights",
        f"The weights of {plan.spec.model} take {_size(weights)}, and {have} "
        f"{gib(plan.world * total)}.",
        _more_gpus(plan),
        _numbers(plan, weights, total),
    )


def _fewer_than_the_recipe(plan: Plan) -> Iterator[Finding]:
    """Where the GPUs cannot be seen, the recipe's number is all there is."""
    recipe = plan.model.recipe
    if plan.on_gpu and recipe and recipe.gpus and recipe.gpus > plan.world:
        yield Finding(
            "warn",
            "oom_loading_weights",
            f"{plan.spec.model} needs {gpu_word(recipe.gpus)} of 192 GB by the project's recipe, "
            f"and is to get {plan.world}.",
            _gpus_remedy(recipe.gpus),
            {"gpus": plan.world, "gpus_needed": recipe.gpus},
        )


def one_request_fits(plan: Plan) -> Iterator[Finding]:
    """Weights and one request of the longest length, in vLLM's share of each GPU."""
    weights, total = plan.model.weights, plan.gpu_bytes
    if not _computable(plan) or weights is None or total is None:
        return
    share, held = plan.util * total, weights.per_gpu(plan.world)
    kv = _request_bytes(plan)
    need = held + kv + _overhead(total)
    if need <= share or held > total:
        return
    request = f", {gib(kv)} of KV cache for one request of {plan.length} tokens" if kv else ""
    yield Finding(
        "warn",
        "no_memory_for_kv_cache" if held > share else "kv_cache_too_small_for_max_model_len",
        f"{plan.spec.model} needs about {gib(need)} on {_each(plan.world)}: {gib(held)} "
        f"of weights ({weights.source}){request}, about {gib(_overhead(total))} for the rest. vLLM "
        f"may use {gib(share)} ({plan.util_said}, of {gib(total)}).",
        _make_it_fit(plan, share - held - _overhead(total)),
        _numbers(plan, weights, total) | {"needed_gib": _round(need), "share_gib": _round(share)},
    )


def enough_is_free(plan: Plan) -> Iterator[Finding]:
    """vLLM starts only where its whole share is free (v1/worker/utils.py: `request_memory`)."""
    for gpu in plan.gpus:
        if gpu.total is None or gpu.free is None:
            continue
        wanted = math.ceil(gpu.total * plan.util)
        if gpu.free < wanted:
            yield _too_full(plan, gpu, gpu.total, gpu.free, wanted)
            return  # the others are hardly another story


def _too_full(plan: Plan, gpu: Gpu, total: int, free: int, wanted: int) -> Finding:
    who = holders(gpu, plan.machine.root, plan.machine.name_of)
    held = "; ".join(map(str, who[:4])) or "no process that the driver knows of"
    safe = safe_utilization(free / GIB, total / GIB)
    weights = plan.model.weights
    fits = weights is None or weights.per_gpu(plan.world) + _overhead(total) < safe * total
    remedy = f"End what holds the other {gib(total - free)} ({held})"
    if safe > 0 and fits:
        remedy += (
            f", or use --vllm-gpu-util {safe:g} (vllm serve --gpu-memory-utilization {safe:g}): "
            f"{free / GIB:.2f}/{total / GIB:.2f} GiB = {math.floor(free / total * 1000) / 1000:.3f}"
        )
    return Finding(
        "warn",
        "gpu_memory_utilization_too_high",
        f"{gpu.render} has {gib(free)} of {gib(total)} free, and vLLM starts only where "
        f"{gib(wanted)} are ({plan.util_said}).",
        f"{remedy}.",
        {
            "free_gib": _round(free),
            "total_gib": _round(total),
            "requested_gib": _round(wanted),
            "max_gpu_util": safe,
            "holders": [str(holder) for holder in who],
        },
    )


def enough_ram(plan: Plan) -> Iterator[Finding]:
    """On a CPU: weights and KV cache against the memory that is left, and one request in it."""
    if plan.spec.platform != "cpu" or any(
        argv.has_flag(plan.spec.args, f) for f in _CHANGES_THE_SUM
    ):
        return
    cache = _cpu_cache_bytes(plan)
    weights, left = plan.model.weights, available_ram(plan.machine.root)
    if weights is not None and left is not None and weights.loaded + (cache or 0) > left:
        yield Finding(
            "warn",
            "host_oom_killed",
            f"{plan.spec.model} needs {_size(weights)} for its weights and {gib(cache or 0)} for "
            f"the KV cache, and {gib(left)} of memory are available.",
            "Serve a smaller model"
            + (
                ", or leave less to the cache: --vllm-env VLLM_CPU_KVCACHE_SPACE=1 "
                "(docker run -e VLLM_CPU_KVCACHE_SPACE=1)."
                if (cache or 0) > GIB
                else "."
            ),
            {"weights_gib": _round(weights.loaded), "available_gib": _round(left)},
        )
    need = _request_bytes(plan)
    if cache is not None and need > cache and plan.kv_cache is not None and plan.length:
        # One block is the pool's own.
        fits = plan.kv_cache.longest(cache - plan.kv_cache.block_bytes, plan.length)
        space = math.ceil((need + plan.kv_cache.block_bytes) / GIB)
        yield Finding(
            "warn",
            "kv_cache_too_small_for_max_model_len",
            f"One request of {plan.length} tokens takes {gib(need)} of KV cache, and it has "
            f"{gib(cache)}.",
            f"Use {_shorter(fits)}, or --vllm-env VLLM_CPU_KVCACHE_SPACE={space} "
            f"(docker run -e VLLM_CPU_KVCACHE_SPACE={space}).",
            {
                "needed_gib": _round(need),
                "available_gib": _round(cache),
                "max_model_len_fits": fits,
            },
        )


def _cpu_cache_bytes(plan: Plan) -> int | None:
    """The KV cache of a CPU server, where a variable says it."""
    value = plan.environ.get("VLLM_CPU_KVCACHE_SPACE", "")
    return int(value) * GIB if value.isdecimal() and int(value) else None


def available_ram(root: Path) -> int | None:
    """What a new process could have: of the machine, and of our control group."""
    found = []
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            found.append(int(line.split()[1]) * 1024)
    group = root / "sys/fs/cgroup"
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit.isdecimal():
            found.append(int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no limit, or an older kernel
    return min(found, default=None)


# --- sums ------------------------------------------------------------------------------------


def _computable(plan: Plan) -> bool:
    return plan.on_gpu and not any(argv.has_flag(plan.spec.args, f) for f in _CHANGES_THE_SUM)


def _overhead(total: float) -> float:
    return min(OVERHEAD, 0.05 * total)


def _request_bytes(plan: Plan) -> float:
    if plan.kv_cache is None or not plan.length:
        return 0
    return plan.kv_cache.request_bytes(plan.length)


def gpus_needed(plan: Plan) -> int | None:
    """The smallest tensor parallel size with which it fits; None if none of those does."""
    weights, total, geometry = plan.model.weights, plan.gpu_bytes, plan.model.geometry
    recipe = plan.model.recipe
    by_recipe = recipe.gpus or 1 if recipe else 1
    if weights is None or total is None:
        return by_recipe if by_recipe > 1 else None
    if total > _RECIPE_GPU:
        by_recipe = 1  # larger GPUs than those that the recipe was made for
    for size in _SIZES:
        if geometry and geometry.heads % size:
            continue
        kv = 0.0
        if plan.kv_cache and plan.length:
            per_token = plan.kv_cache.geometry
            kv = plan.kv_cache.request_bytes(plan.length) * (
                per_token.token_bytes(size, 1) / per_token.token_bytes(plan.tp, 1)
            )
        need = weights.per_gpu(size) + kv + _overhead(total)
        if need <= plan.util * total and size >= by_recipe:
            return size
    return None


# --- words -----------------------------------------------------------------------------------


def _size(weights: Weights) -> str:
    return (
        f"{gib(weights.loaded)} (by {weights.source})"
        if weights.certain
        else (f"about {gib(weights.loaded)} ({weights.source})")
    )


def _gpus_remedy(count: int) -> str:
    return f"--vllm-gpus {count} (vllm serve --tensor-parallel-size {count})"


def _more_gpus(plan: Plan) -> str:
    needed = gpus_needed(plan)
    if needed is None or needed <= plan.world:
        return "It needs GPUs with more memory, or a quantized checkpoint of the model."
    here = len(plan.all_gpus)
    but = f"; this machine has {here}" if needed > here else ""
    return f"It needs {gpu_word(needed)}: {_gpus_remedy(needed)}{but}."


def _make_it_fit(plan: Plan, left: float) -> str:
    ways = []
    if plan.kv_cache and plan.length and left > 0:
        fits = plan.kv_cache.longest(left, plan.length)
        if min(512, plan.length) <= fits < plan.length:
            ways.append(_shorter(fits))
    if plan.util < 0.9:
        ways.append("a higher --vllm-gpu-util (vllm serve --gpu-memory-utilization)")
    needed = gpus_needed(plan)
    if needed and needed > plan.world:
        but = f", this machine has {len(plan.all_gpus)}" if needed > len(plan.all_gpus) else ""
        ways.append(f"{_gpus_remedy(needed)}{but}")
    return f"Use {', or '.join(ways)}." if ways else "Use larger GPUs, or a quantized checkpoint."


def _shorter(fits: int) -> str:
    fits = fits // 16 * 16 or fits
    return f"--vllm-max-model-len {fits} (vllm serve --max-model-len {fits})"


def _round(size: float) -> float:
    return round(size / GIB, 2)


def _numbers(plan: Plan, weights: Weights, total: int) -> dict[str, object]:
    return {
        "weights_gib": _round(weights.loaded),
        "gpu_gib": _round(total),
        "gpus": plan.world,
        "gpus_needed": gpus_needed(plan),
    }
