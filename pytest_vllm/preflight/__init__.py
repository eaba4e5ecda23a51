"""Before a slow start: what will not work, or may not, with the numbers and what to do.

It only helps: whatever goes wrong in here is noted at debug level, and the start goes on. Only
what cannot work is refused, everything else is a warning.
"""

from __future__ import annotations

from pytest_vllm.preflight.examine import examine
from pytest_vllm.preflight.finding import Finding, refusal
from pytest_vllm.preflight.plan import Machine, Plan

__all__ = ["Finding", "Machine", "Plan", "examine", "refusal"]
