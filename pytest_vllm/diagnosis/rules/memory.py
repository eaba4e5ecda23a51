"""Memory of the GPU: what vLLM was told to take, what is free, what a model needs.

vLLM takes total × utilization in all: weights, activations (measured by a profiling run), graphs,
and the rest becomes the KV cache. See docs of vLLM, "Conserving memory".
"""

from __future__ import annotations

import math
import re

from pytest_vllm.diagnosis.rules.rule import Found, Numbers, Rule, rule

_UNITS = {"KiB": 2**-20, "MiB": 2**-10, "GiB": 1.0, "TiB": 1024.0, "MB": 2**-10, "GB": 1.0}


def safe_utilization(free: float, total: float) -> float:
    """free / total, rounded down to a multiple of 0.05 so that others may take a little more."""
    return math.floor(free / total * 20 + 1e-9) / 20


def _refused(found: Found) -> str:
    free, total = found.number("free"), found.number("total")
    share, safe = free / total, safe_utilization(free, total)
    sum_ = f"{free:g}/{total:g} GiB = {math.floor(share * 1000) / 1000:.3f}"
    if safe <= 0:
        return f"Nothing is left on this GPU ({sum_}): end what holds it (rocm-smi --showpids), or choose another GPU."
    held = total - free
    return (
        f"At most {sum_} of the memory is free, so use --vllm-gpu-util {safe:g} or less "
        f"(vllm serve --gpu-memory-utilization {safe:g}); or end what holds the other {held:.2f} GiB "
        "(rocm-smi --showpids, docker ps)."
    )


def _refused_numbers(found: Found) -> Numbers:
    free, total = found.number("free"), found.number("total")
    return {
        "free_gib": free,
        "total_gib": total,
        "requested": found.number("asked"),
        "requested_gib": found.number("wanted"),
        "gpu_memory_utilization_max": math.floor(free / total * 100 + 1e-9) / 100,
        "max_gpu_util": safe_utilization(free, total),
    }


def _tokens(found: Found) -> str:
    fits = int(found["fits"])
    return (
        f"The KV cache holds {fits} tokens, and one request may have {found['length']}: use "
        f"--vllm-max-model-len {fits} or less (vllm serve --max-model-len {fits}), a higher --vllm-gpu-util "
        "(--gpu-memory-utilization), or more GPUs (--vllm-gpus; --tensor-parallel-size)."
    )


def _tokens_numbers(found: Found) -> Numbers:
    fits = int(found["fits"])
    return {
        "max_model_len": int(found["length"]),
        "kv_cache_tokens": fits,
        "max_model_len_fits": fits,
    }


def _needed(found: Found) -> str:
    figures = _needed_numbers(found)
    fits, more = figures["max_model_len_fits"], figures["needed_gib"] - figures["available_gib"]
    return (
        f"{figures['needed_gib']:g} GiB of KV cache are needed for one request of {figures.get('max_model_len', 'this')} tokens, "
        f"{figures['available_gib']:g} GiB are there: use --vllm-max-model-len {fits} or less "
        f"(vllm serve --max-model-len {fits}), or give {more:.2f} GiB more by a higher --vllm-gpu-util "
        "(--gpu-memory-utilization) or more GPUs (--vllm-gpus; --tensor-parallel-size)."
    )


def _needed_numbers(found: Found) -> dict[str, float]:
    needed, available = found.number("needed"), found.number("available")
    estimate = re.search(r"estimated maximum model length is (\d+)", found.match.string)
    length = re.search(
        r"max(?:imum)? (?:seq(?:uence)?|model) len(?:gth)? \(?(\d+)", found.match.string
    )
    numbers: dict[str, float] = {"needed_gib": needed, "available_gib": available}
    if length:
        numbers["max_model_len"] = int(length[1])
    if estimate:
        numbers["estimated_max_model_len"] = int(estimate[1])
    fits = (
        int(estimate[1]) if estimate else int(numbers.get("max_model_len", 0) * available / needed)
    )
    return numbers | {"max_model_len_fits": fits // 16 * 16 or fits}


def _allocation(found: Found) -> dict[str, float]:
    numbers = {}
    line = found.match.string
    for name, pattern in (
        ("tried", r"Tried to allocate ([\d.]+) ([KMGT]i?B)"),
        ("total", r"(?:total capacity of|GPU \d+;) ([\d.]+) ([KMGT]i?B)"),
        ("free", r"(?:of which )?([\d.]+) ([KMGT]i?B) (?:is )?free"),
        ("allocated", r"([\d.]+) ([KMGT]i?B) (?:is allocated by PyTorch|already allocated)"),
    ):
        if m := re.search(pattern, line):
            gib = float(m[1]) * _UNITS.get(m[2], 1.0)
            numbers[f"{name}_gib"] = round(gib, 4)
            if m[2] in ("MiB", "KiB"):
                numbers[f"{name}_mib"] = round(gib * 1024, 2)
    if m := re.search(r"GPU (\d+) has", line):
        numbers["gpu"] = int(m[1])
    return numbers


def _sums(found: Found) -> str:
    n = _allocation(found)
    if not {"tried_gib", "free_gib", "total_gib"} <= n.keys():
        return ""
    return f" ({n['tried_gib']:g} GiB were asked for, {n['free_gib']:g} of {n['total_gib']:g} GiB were free)"


def _weights(found: Found) -> str:
    n = _allocation(found)
    if "DefaultCPUAllocator" in found.match.string or "bad_alloc" in found.match.string:
        return (
            "The host's memory ended: give the container more (docker run --memory 32g), leave more to the weights "
            "(--vllm-env VLLM_CPU_KVCACHE_SPACE=1), or serve a smaller model."
        )
    others = n.get("total_gib", 0) - n.get("free_gib", 0) - n.get("allocated_gib", 0)
    held = f" About {others:.1f} GiB belong to other processes: end them." if others > 2 else ""
    return (
        f"The weights do not fit{_sums(found)}: use more GPUs (--vllm-gpus 2; --tensor-parallel-size 2), "
        f"a quantized model, or a GPU with more memory.{held}"
    )


def _serving(found: Found) -> str:
    return (
        f"A request needed more than was left{_sums(found)}: lower --vllm-gpu-util (--gpu-memory-utilization), "
        "--vllm-arg=--max-num-seqs=64 or --vllm-arg=--max-num-batched-tokens=2048, and cap images: "
        "--vllm-arg='--limit-mm-per-prompt={\"image\":1}'."
    )


_OOM = (
    r"(?:OutOfMemoryError|HIP out of memory|CUDA out of memory|hipErrorOutOfMemory|cudaErrorMemoryAllocation"
    r"|(?:HIP|CUDA) error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|HIPBLAS_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: (?:can't|not enough)|std::bad_alloc|^\s*MemoryError)"
)

RULES: tuple[Rule, ...] = (
    rule(
        "gpu_memory_utilization_too_high",
        r"(?:Free|Available) memory on (?:device|node) ?(?:\S+ )?\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than "
        r"desired (?:GPU|CPU) memory utilization \((?P<asked>[\d.]+), (?P<wanted>[\d.]+) GiB\)",
        "The GPU has less free memory than vLLM was told to take.",
        _refused,
        _refused_numbers,
        anywhere=True,
        badness=lambda m: -float(m["free"]) / float(m["total"]),
    ),
    rule(
        "gpu_memory_utilization_too_low",
        r"memory on node \d+ \([\d.]+/(?P<total>[\d.]+) GiB\) on kv cache allocation is less than requested memory for kv \((?P<kv>-[\d.]+)/(?P<budget>[\d.]+) GiB\)",
        "The share of memory is so small that the process itself already uses more.",
        "Raise it: --vllm-gpu-util 0.5 (vllm serve --gpu-memory-utilization 0.5). {budget} of {total} GiB were allowed, and {kv} GiB were left for the KV cache.",
        lambda f: {
            "kv_gib": f.number("kv"),
            "budget_gib": f.number("budget"),
            "total_gib": f.number("total"),
        },
        anywhere=True,
    ),
    rule(
        "kv_cache_larger_than_memory",
        r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache allocation is less than requested memory for kv \((?P<asked>[\d.]+) GiB\)",
        "The KV cache was given more memory than there is.",
        lambda f: (
            f"{f['free']} GiB are free: -e VLLM_CPU_KVCACHE_SPACE={max(1, int(f.number('free') - 1))} or less "
            f"(--vllm-env VLLM_CPU_KVCACHE_SPACE={max(1, int(f.number('free') - 1))}, or --kv-cache-memory-bytes)."
        ),
        lambda f: {"requested_gib": f.number("asked"), "free_gib": f.number("free")},
        anywhere=True,
    ),
    rule(
        "kv_cache_too_small_for_max_model_len",
        r"max(?:imum)?[ _](?:seq|model)[ _]len(?:gth)? \((?P<length>\d+)\)\s+is larger than the (?:maximum|max)[^(]*\((?P<fits>\d+)\)",
        "The KV cache cannot hold one request of the longest allowed length.",
        _tokens,
        _tokens_numbers,
        anywhere=True,
    ),
    rule(
        "kv_cache_too_small_for_max_model_len",
        r"\(?(?<![\d.])(?P<needed>[\d.]{1,12}) Gi?B\)? KV cache is needed, which is larger than the available KV cache memory \((?P<available>[\d.]+) Gi?B\)",
        "The KV cache cannot hold one request of the longest allowed length.",
        _needed,
        _needed_numbers,
        anywhere=True,
    ),
    rule(
        "no_memory_for_kv_cache",
        r"No available memory for the cache blocks|Available KV cache memory: -",
        "After the weights, no memory is left for the KV cache.",
        "Use more GPUs (--vllm-gpus 2; --tensor-parallel-size 2) or a smaller or quantized model, lower --vllm-max-model-len 4096, "
        "--vllm-arg=--max-num-seqs=64 and --vllm-arg=--max-num-batched-tokens=2048; raise --vllm-gpu-util (--gpu-memory-utilization) only if it is below 0.95 and "
        "other processes do not hold the memory.",
        anywhere=True,
    ),
    rule(
        "memory_profiling_race",
        r"Error in memory profiling\.? ?.*?(?:Initial (?:free|used) memory:? (?P<initial>[\d.]+))?.*?(?:current (?:free|used) memory:? (?P<current>[\d.]+))?",
        "Another process gave GPU memory back while vLLM measured its own.",
        "Start again when nothing else on this GPU starts or ends; one server at a time per GPU (rocm-smi --showpids shows who is there; HIP_VISIBLE_DEVICES=N chooses another).",
        lambda f: {
            k: float(v)
            for k, p in (
                ("initial_free_gib", r"[Ii]nitial (?:free|used) memory:? ([\d.]+)"),
                ("current_free_gib", r"[Cc]urrent (?:free|used) memory:? ([\d.]+)"),
            )
            for v in re.findall(p, f.match.string)[:1]
        },
        anywhere=True,
    ),
    rule(
        "sampler_warmup_oom",
        r"out of memory occurred when warming up (?:sampler|pooler) with (?P<max_num_seqs>\d+)",
        "The memory ended while vLLM tried the largest batch.",
        "Lower --vllm-arg=--max-num-seqs=256 (vllm serve --max-num-seqs 256; it was {max_num_seqs}) or --vllm-gpu-util (--gpu-memory-utilization).",
        anywhere=True,
    ),
    rule(
        "oom_loading_weights",
        _OOM,
        "The GPU's memory ended while the weights were loaded.",
        _weights,
        _allocation,
    ),
)

#: By phase: where an allocation failed once the weights were there.
PHASES: tuple[tuple[str, str, str, str], ...] = (
    (
        "multimodal_profiling_oom",
        r"dummy_mm|get_multimodal_embeddings|encoder cache|embed_multimodal|vision|visual|multimodal/profiling",
        "The GPU's memory ended while vLLM tried the largest images.",
        'Text only: --vllm-arg=\'--limit-mm-per-prompt={"image":0,"video":0}\'; or fewer or smaller images (--vllm-arg=\'--mm-processor-kwargs={"max_pixels":1003520}\').',
    ),
    (
        "oom_lora",
        r"lora",
        "The GPU's memory ended while room was made for LoRA adapters.",
        "Lower --vllm-arg=--max-loras=1 and --vllm-arg=--max-lora-rank=16, or --vllm-gpu-util (--gpu-memory-utilization).",
    ),
    (
        "oom_after_profiling",
        r"capture_model|capturing CUDA graph|Graph capturing|initialize_kv_cache|allocate_kv_cache|kv_cache_tensors",
        "The GPU's memory ended after the KV cache was sized.",
        "Leave more room: --vllm-gpu-util lower by 0.05 (--gpu-memory-utilization), --vllm-arg=--max-num-seqs=64, or --vllm-arg=--enforce-eager.",
    ),
)


def serving_remedy(found: Found) -> str:
    """What to do where memory ended during a request."""
    return _serving(found)


def allocation_numbers(found: Found) -> dict[str, float]:
    """The figures of an out-of-memory line, in GiB."""
    return _allocation(found)
