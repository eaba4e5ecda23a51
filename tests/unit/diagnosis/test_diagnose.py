from __future__ import annotations

from pytest_vllm.diagnosis import diagnose
from pytest_vllm.servers.server import State

FULL_GPU = (
    "(EngineCore pid=9) ERROR 11-23 04:00:00 [core.py:1] ValueError: Free memory on device cuda:0 "
    "(164.76/191.98 GiB) on startup is less than desired GPU memory utilization (0.92, 176.62 GiB)."
)


def test_a_full_gpu_is_recognised_with_the_share_that_fits() -> None:
    found = diagnose(f"INFO\n{FULL_GPU}\nRuntimeError: Engine core initialization failed.")
    assert found.cause == "gpu_memory_utilization_too_high"
    figures = {"free_gib": 164.76, "total_gib": 191.98, "max_gpu_util": 0.85}
    assert figures.items() <= found.numbers.items()
    assert "--vllm-gpu-util 0.85" in found.remedy
    assert found.evidence in FULL_GPU


def test_a_kill_by_the_kernel_beats_whatever_the_log_says() -> None:
    found = diagnose(FULL_GPU, state=State(False, 137, oom_killed=True))
    assert (found.cause, found.evidence) == ("host_oom_killed", "OOMKilled, exit code 137")


def test_an_exit_for_another_reason_leaves_the_log_to_decide() -> None:
    found = diagnose(FULL_GPU, state=State(False, 1, oom_killed=False))
    assert found.cause == "gpu_memory_utilization_too_high"


def test_an_error_that_no_rule_knows_is_shown_and_called_unknown() -> None:
    found = diagnose("Exception: something new")
    assert (found.cause, found.evidence, found.confidence) == (
        "unknown",
        "Exception: something new",
        0.0,
    )


def test_an_end_without_an_error_is_unknown() -> None:
    found = diagnose("INFO loading", state=State(False, 3))
    assert (found.cause, found.title, found.evidence) == ("unknown", "The log names no error.", "")


def test_a_start_that_goes_on_is_slow_and_no_more() -> None:
    found = diagnose("INFO 11-22 08:56:16 [default_loader.py:501] Loading weights")
    assert (found.cause, found.evidence) == (
        "slow_startup",
        "INFO 11-22 08:56:16 [default_loader.py:501] Loading weights",
    )
