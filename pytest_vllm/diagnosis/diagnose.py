"""From a log and an end state to one cause.

`diagnose` tries the rules in order; the first that recognises the failure wins. `unknown` is
an honest answer and shows the first error of the deepest process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pytest_vllm.diagnosis import memory
from pytest_vllm.diagnosis.first_error import first_error


class EndState(Protocol):
    """What is known of the end of a server."""

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal."""

    @property
    def oom_killed(self) -> bool | None:
        """Whether the kernel killed it for lack of memory."""


@dataclass(frozen=True)
class Diagnosis:
    """One cause.

    Attributes:
        cause: Its class, a stable name for machines; `unknown` if no rule knows it.
        title: What happened, in one sentence.
        evidence: The line that shows it.
        remedy: What to do, ready to paste.
        numbers: The figures that the remedy rests on.
        confidence: 0 to 1.
    """

    cause: str
    title: str
    evidence: str = ""
    remedy: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    confidence: float = 1.0


def diagnose(log: str, *, state: EndState | None = None) -> Diagnosis:
    """Find the cause of a failed start or a death."""
    for rule in _RULES:
        if diagnosis := rule(log, state):
            return diagnosis
    error = first_error(log.splitlines()) or ""
    title = "The log names an error that no rule knows." if error else "The log names no error."
    return Diagnosis("unknown", title, error, confidence=0.0)


def _host_out_of_memory(log: str, state: EndState | None) -> Diagnosis | None:
    if state is None or not state.oom_killed:
        return None
    return Diagnosis(
        "host_oom_killed",
        "The kernel killed the server: the host memory that it may use was not enough.",
        f"OOMKilled, exit code {state.exit_code}",
        "Free host memory, or serve a smaller model. `free -g` and `dmesg | grep -i oom` show it.",
    )


def _gpu_memory_taken(log: str, state: EndState | None) -> Diagnosis | None:
    refusal = memory.find_refusal(log)
    if refusal is None:
        return None
    return Diagnosis(
        "gpu_memory_utilization_too_high",
        "The GPU has less free memory than vLLM was told to take.",
        refusal.line,
        memory.remedy(refusal),
        {
            "free_gib": refusal.free,
            "total_gib": refusal.total,
            "max_gpu_util": memory.safe_utilization(refusal),
        },
    )


_Rule = Callable[[str, "EndState | None"], "Diagnosis | None"]
_RULES: tuple[_Rule, ...] = (_host_out_of_memory, _gpu_memory_taken)
