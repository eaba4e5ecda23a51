"""Why a server failed: log and end state in, one cause with evidence and remedy out. Pure."""

from __future__ import annotations

from pytest_vllm.diagnosis.diagnose import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
