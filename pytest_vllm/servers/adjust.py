"""`--vllm-auto-adjust`: the remedy that the diagnosis computed for want of memory, as a spec. Pure.

Only what vLLM itself gave figures for is changed, and only towards less memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_vllm.servers import argv
from pytest_vllm.servers.launcher import ADJUSTED
from pytest_vllm.spec import ServerSpec

if TYPE_CHECKING:
    from pytest_vllm.errors import LaunchError


@dataclass(frozen=True)
class Adjustment:
    """Another spec to try, and what people are told about it."""

    spec: ServerSpec
    text: str


def adjusted(spec: ServerSpec, diagnosis: Mapping[str, Any] | None) -> Adjustment | None:
    """What to start instead after a refusal; None where the diagnosis computed nothing."""
    if diagnosis is None or (way := _WAYS.get(diagnosis["cause"])) is None:
        return None
    changed = way(spec, diagnosis["numbers"])
    if changed is None:
        return None
    other, what = changed
    return Adjustment(other, f"{ADJUSTED}{what}, since: {diagnosis['title']}")


_Changed = tuple[ServerSpec, str] | None
_Way = Callable[[ServerSpec, Mapping[str, Any]], _Changed]


def _less_util(spec: ServerSpec, numbers: Mapping[str, Any]) -> _Changed:
    share = numbers.get("max_gpu_util") or 0
    asked = numbers.get("requested", 1)
    if not 0 < share < asked:
        return None
    why = f"{numbers['free_gib']:g} of {numbers['total_gib']:g} GiB are free"
    args = argv.without(spec.args, "--gpu-memory-utilization")
    other = replace(spec, gpu_util=share, args=args)
    return other, f"--vllm-gpu-util {share:g} instead of {asked:g} ({why})"


def _shorter(spec: ServerSpec, numbers: Mapping[str, Any]) -> _Changed:
    length, asked = numbers.get("max_model_len_fits") or 0, numbers.get("max_model_len", 0)
    if not length > 0 or (asked and length >= asked):
        return None
    args = argv.without(spec.args, "--max-model-len")
    other = replace(spec, max_model_len=int(length), args=args)
    return other, f"--vllm-max-model-len {length} instead of {asked or 'the model’s own'}"


def _fewer_sequences(spec: ServerSpec, numbers: Mapping[str, Any]) -> _Changed:
    tried = int(numbers.get("max_num_seqs") or 0)
    if tried < 2:
        return None
    args = argv.without(spec.args, "--max-num-seqs")
    other = replace(spec, args=(*args, f"--max-num-seqs={tried // 2}"))
    return other, f"--vllm-arg=--max-num-seqs={tried // 2} instead of {tried}"


def _less_cpu_cache(spec: ServerSpec, numbers: Mapping[str, Any]) -> _Changed:
    space = int(numbers.get("free_gib", 0) - 1)
    if space < 1:
        return None
    env = {**dict(spec.env), "VLLM_CPU_KVCACHE_SPACE": str(space)}
    asked = f"{numbers.get('requested_gib', 0):g}"
    other = replace(spec, env=tuple(env.items()))
    return other, f"--vllm-env VLLM_CPU_KVCACHE_SPACE={space} instead of {asked}"


#: Causes whose numbers say what would fit.
_WAYS: dict[str, _Way] = {
    "gpu_memory_utilization_too_high": _less_util,
    "kv_cache_too_small_for_max_model_len": _shorter,
    "sampler_warmup_oom": _fewer_sequences,
    "kv_cache_larger_than_memory": _less_cpu_cache,
}


def with_more(error: LaunchError, *more: str) -> LaunchError:
    """The same error, whose report says more: warnings before the start, an earlier try."""
    said = [text for text in more if text]
    if not said:
        return error
    longer = type(error)("\n\n".join([str(error), *said]))
    longer.diagnosis = error.diagnosis
    return longer


def earlier_try(first: LaunchError, adjustment: Adjustment) -> str:
    """What the report of a second failure says of the first: no log a second time."""
    report = str(first).partition("\n\n")[0]
    return f"This was the second try ({adjustment.text}). The first one:\n{report}"


def before_the_start(warnings: tuple[str, ...]) -> str:
    """What the report of a failure says of the preflight."""
    return "\n".join(["Before the start:", *(f"  {w}" for w in warnings)]) if warnings else ""
