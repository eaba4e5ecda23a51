"""What the preflight says: one sentence with numbers, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_vllm.errors import PreflightRefused

Level = Literal["warn", "refuse"]


@dataclass(frozen=True)
class Finding:
    """One thing that stands in the way of a start.

    Attributes:
        level: `refuse` where it cannot work, else `warn`.
        cause: As the diagnosis would call the failure.
        what: What is the matter, with numbers.
        remedy: What to do, in this plugin's options and as the plain flag; "" for nothing.
        numbers: The figures, for machines.
    """

    level: Level
    cause: str
    what: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.what} {self.remedy}".strip()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "level": self.level,
            "cause": self.cause,
            "what": self.what,
            "remedy": self.remedy,
            "numbers": dict(self.numbers),
        }


def refusal(model: str, findings: Sequence[Finding]) -> PreflightRefused | None:
    """The error for what cannot work; None where all of it may."""
    refused = [finding for finding in findings if finding.level == "refuse"]
    if not refused:
        return None
    first = refused[0]
    lines = [f"{model} was not started, since it cannot work: {first.what}"]
    lines += [f"  do        {first.remedy}"] if first.remedy else []
    lines += [f"  also      {finding}" for finding in findings if finding is not first]
    lines.append("  anyway    --vllm-preflight=off starts it without a look")
    error = PreflightRefused("\n".join(lines))
    error.diagnosis = {
        "cause": first.cause,
        "title": first.what,
        "evidence": "found before the start",
        "remedy": first.remedy,
        "numbers": dict(first.numbers),
        "confidence": 1.0,
        "also": [finding.cause for finding in refused[1:]],
    }
    return error
