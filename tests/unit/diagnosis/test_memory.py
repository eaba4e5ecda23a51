from __future__ import annotations

import math

import pytest

from pytest_vllm.diagnosis.memory import Refusal, find_refusal, remedy, safe_utilization

END = "Decrease GPU memory utilization or reduce GPU memory used by other processes."


def line(free: float, total: float, share: float = 0.92) -> str:
    return (
        f"ValueError: Free memory on device cuda:0 ({free}/{total} GiB) on startup is less than "
        f"desired GPU memory utilization ({share}, {share * total:.2f} GiB). {END}"
    )


def refusal(free: float, total: float) -> Refusal:
    return Refusal(free, total, 0.92, "")


@pytest.mark.parametrize(
    ("text", "figures"),
    [
        (
            "Free memory on device (31.44/47.38 GiB) on startup is less than desired GPU memory "
            f"utilization (0.95, 45.01 GiB). {END}",
            (31.44, 47.38, 0.95),
        ),
        (line(19.77, 22.05), (19.77, 22.05, 0.92)),
        (
            "Available memory on node 0 (3.10/7.75 GiB) on startup is less than desired CPU memory "
            "utilization (0.92, 7.13 GiB). Decrease --gpu-memory-utilization.",
            (3.1, 7.75, 0.92),
        ),
    ],
    ids=["0.9.1", "0.16", "cpu"],
)
def test_the_refusal_is_found_in_the_words_of_every_version(
    text: str, figures: tuple[float, float, float]
) -> None:
    found = find_refusal(f"(EngineCore pid=9) ERROR [core.py:1] {text}\nmore")
    assert found is not None
    assert (found.free, found.total, found.utilization) == figures


def test_the_evidence_is_the_sentence_without_what_the_log_puts_before_it() -> None:
    found = find_refusal(f"(Worker pid=1) ERROR [x.py:1] {line(1, 2)}\n")
    assert found is not None
    assert found.line.startswith("Free memory on device cuda:0 (1/2 GiB)")
    assert found.line.endswith(END)


def test_of_several_gpus_the_tightest_decides() -> None:
    found = find_refusal("\n".join((line(100, 192), line(50, 192), line(120, 192))))
    assert found is not None
    assert found.free == 50


@pytest.mark.parametrize("log", ["", "Free memory on device: 3 GiB", "torch.OutOfMemoryError: HIP"])
def test_another_log_holds_no_refusal(log: str) -> None:
    assert find_refusal(log) is None


@pytest.mark.parametrize(
    ("free", "total", "safe"),
    [
        (164.76, 191.98, 0.85),
        (19.0, 23.54, 0.80),
        (31.44, 47.38, 0.65),
        (89.99, 100, 0.85),
        (55.01, 100, 0.55),
        (0.5, 192, 0.0),
        (0, 192, 0.0),
    ],
)
def test_the_safe_share_is_what_is_free_rounded_down_to_a_twentieth(
    free: float, total: float, safe: float
) -> None:
    assert safe_utilization(refusal(free, total)) == pytest.approx(safe, abs=1e-12)


@pytest.mark.parametrize("total", [15.98, 47.38, 63.98, 191.98, 255.98])
def test_the_safe_share_always_fits_and_wastes_less_than_a_twentieth(total: float) -> None:
    for hundredths in range(math.floor(total * 100)):
        free = hundredths / 100
        safe = safe_utilization(refusal(free, total))
        assert safe * total <= free + 1e-9
        assert free < (safe + 0.05) * total + 1e-9


def test_the_remedy_shows_the_arithmetic_and_both_options() -> None:
    assert remedy(refusal(164.76, 191.98)) == (
        "At most 164.76/191.98 GiB = 0.858 of the memory is free: use --vllm-gpu-util 0.85 or less "
        "(vllm serve --gpu-memory-utilization 0.85), or end what holds the rest."
    )


def test_a_full_gpu_needs_another_remedy() -> None:
    assert remedy(refusal(1.5, 191.98)) == (
        "Nothing is left on this GPU (1.5/191.98 GiB = 0.007): end what holds it, or choose "
        "another GPU."
    )
