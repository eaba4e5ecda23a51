"""A refusal for want of memory, and the spec that is tried instead."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.diagnosis import diagnose
from pytest_vllm.errors import StartFailed
from pytest_vllm.servers.adjust import adjusted, before_the_start, earlier_try, with_more
from pytest_vllm.servers.argv import without
from pytest_vllm.spec import ServerSpec

# As real servers wrote them.
BUSY = (
    "(EngineCore pid=9) ERROR ValueError: Free memory on device cuda:0 (164.76/191.98 GiB) on "
    "startup is less than desired GPU memory utilization (0.92, 176.62 GiB). Decrease GPU memory "
    "utilization or reduce GPU memory used by other processes."
)
TOO_LONG = (
    "(EngineCore pid=9) ERROR ValueError: To serve at least one request with the model's max seq "
    "len (40960), (1.25 GiB KV cache is needed, which is larger than the available KV cache memory "
    "(1.0 GiB). Based on the available memory, the estimated maximum model length is 32640. Try "
    "increasing `gpu_memory_utilization` or decreasing `max_model_len`."
)
SAMPLER = (
    "(EngineCore pid=9) ERROR RuntimeError: CUDA out of memory occurred when warming up sampler "
    "with 1024 dummy requests. Please try lowering `max_num_seqs` or `gpu_memory_utilization`."
)
CPU_CACHE = (
    "(EngineCore pid=9) ERROR ValueError: Available memory on node 0 (19.15/23.54 GiB) on kv cache "
    "allocation is less than requested memory for kv (100.0 GiB)."
)


def diagnosed(log: str) -> dict[str, Any]:
    return diagnose(log).as_dict()


def changed(log: str, **given: Any) -> ServerSpec:
    found = adjusted(ServerSpec("acme/m", **given), diagnosed(log))
    assert found is not None
    return found.spec


def test_a_busy_gpu_gets_the_share_that_is_free() -> None:
    found = adjusted(ServerSpec("acme/m"), diagnosed(BUSY))
    assert found is not None
    assert found.spec == ServerSpec("acme/m", gpu_util=0.85)
    assert found.text == (
        "--vllm-auto-adjust: --vllm-gpu-util 0.85 instead of 0.92 (164.76 of 191.98 GiB are free), "
        "since: The GPU has less free memory than vLLM was told to take."
    )


def test_a_context_that_is_too_long_gets_the_length_that_fits() -> None:
    assert changed(TOO_LONG, max_model_len=40960).max_model_len == 32640


def test_the_models_own_length_is_shortened_too() -> None:
    assert changed(TOO_LONG) == ServerSpec("acme/m", max_model_len=32640)


def test_a_batch_that_is_too_large_is_halved() -> None:
    assert changed(SAMPLER, args=("--max-num-seqs", "1024", "--seed=1")).args == (
        "--seed=1",
        "--max-num-seqs=512",
    )


def test_a_cpu_cache_that_is_too_large_gets_what_is_left() -> None:
    spec = changed(CPU_CACHE, env=(("VLLM_CPU_KVCACHE_SPACE", "100"), ("A", "1")))
    assert dict(spec.env) == {"VLLM_CPU_KVCACHE_SPACE": "18", "A": "1"}


@pytest.mark.parametrize(
    ("log", "args"),
    [
        (BUSY, ("--gpu-memory-utilization=0.95",)),
        (BUSY, ("--gpu_memory_utilization", "0.95")),
        (TOO_LONG, ("--max-model-len=40960",)),
    ],
)
def test_what_the_user_gave_as_an_argument_does_not_win(log: str, args: tuple[str, ...]) -> None:
    assert changed(log, args=(*args, "--seed=1")).args == ("--seed=1",)


@pytest.mark.parametrize(
    "diagnosis",
    [
        None,
        diagnosed("ValueError: something else"),
        {"cause": "gpu_memory_utilization_too_high", "numbers": {"max_gpu_util": 0.0}},
        {"cause": "kv_cache_too_small_for_max_model_len", "numbers": {"max_model_len_fits": 0}},
        {"cause": "sampler_warmup_oom", "numbers": {"max_num_seqs": 1}},
        {"cause": "kv_cache_larger_than_memory", "numbers": {"free_gib": 1.2}},
    ],
)
def test_without_figures_that_would_fit_nothing_is_tried(diagnosis: Any) -> None:
    assert adjusted(ServerSpec("acme/m"), diagnosis) is None


@pytest.mark.parametrize(
    "args", [("--a=1", "--b"), ("--a", "1", "--b"), ("--a", "--b"), ("--b", "--a")]
)
def test_a_flag_goes_with_its_value(args: tuple[str, ...]) -> None:
    assert without(args, "--a") == ("--b",)


# --- the report of a second failure --------------------------------------------------------------


def test_both_tries_are_reported_and_the_log_of_the_last() -> None:
    first = StartFailed("acme/m did not start: A\n  cause  the first\n\nThe log ends with:\n  | x")
    second = StartFailed("acme/m did not start: B")
    second.diagnosis = {"cause": "unknown"}
    better = adjusted(ServerSpec("acme/m"), diagnosed(BUSY))
    assert better is not None
    both = with_more(second, earlier_try(first, better))
    assert isinstance(both, StartFailed)
    assert both.diagnosis == {"cause": "unknown"}
    assert str(both).startswith("acme/m did not start: B\n\nThis was the second try (--vllm-auto")
    assert str(both).endswith("The first one:\nacme/m did not start: A\n  cause  the first")


def test_warnings_before_the_start_are_in_the_report_of_its_failure() -> None:
    error = with_more(StartFailed("no"), before_the_start(("warning: the disk is small",)))
    assert str(error) == "no\n\nBefore the start:\n  warning: the disk is small"


def test_without_warnings_the_error_stays_itself() -> None:
    error = StartFailed("no")
    assert with_more(error, before_the_start(())) is error
