"""`Free memory on device … is less than desired GPU memory utilization`: the largest safe share.

vLLM checks at the start of a worker: requested = total × utilization must be free. So the
largest utilization that starts is free / total; it is rounded down to 0.05 to leave room for
what other processes do meanwhile.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

#: Wordings of vLLM 0.9.1 to 0.32; newer ones name the device, CPU builds say `Available memory`.
_REFUSAL = re.compile(
    r"(?:Free|Available) memory on (?:device|node)(?: \S+)? \(([\d.]+)/([\d.]+) GiB\) on startup "
    r"is less than desired (?:GPU|CPU) memory utilization \(([\d.]+), ([\d.]+) GiB\)[^\n]*"
)


@dataclass(frozen=True)
class Refusal:
    """vLLM's figures, in GiB, and the sentence they stand in."""

    free: float
    total: float
    utilization: float
    line: str


def find_refusal(log: str) -> Refusal | None:
    """The refusal with the least free memory: with several GPUs, the tightest one decides."""
    found = [
        Refusal(float(m[1]), float(m[2]), float(m[3]), m[0].strip()) for m in _REFUSAL.finditer(log)
    ]
    return min(found, key=lambda r: r.free / r.total) if found else None


def safe_utilization(refusal: Refusal) -> float:
    """free / total, rounded down to a multiple of 0.05."""
    return math.floor(refusal.free / refusal.total * 20) / 20


def remedy(refusal: Refusal) -> str:
    """What to do, with the arithmetic."""
    share = refusal.free / refusal.total
    sum_ = f"{refusal.free:g}/{refusal.total:g} GiB = {math.floor(share * 1000) / 1000:g}"
    safe = safe_utilization(refusal)
    if safe <= 0:
        return f"Nothing is left on this GPU ({sum_}): end what holds it, or choose another GPU."
    return (
        f"At most {sum_} of the memory is free: use --vllm-gpu-util {safe:g} or less "
        f"(vllm serve --gpu-memory-utilization {safe:g}), or end what holds the rest."
    )
