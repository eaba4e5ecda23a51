"""The text that people see when a server did not start, or died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vllm.diagnosis import Diagnosis, diagnose
from pytest_vllm.redaction import redact
from pytest_vllm.servers.logs import tail

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

_TAIL_LINES = 15


def start_report(
    instance: Instance, spec: ServerSpec, what: str, elapsed_s: float, phase: str, advice: str
) -> str:
    """What happened, where, why, and what to do next, for a failed start."""
    where = f" in phase “{phase}”" if phase else ""
    head = f"{spec.model or spec.url} did not start: {what} (after {elapsed_s:.0f} s{where})"
    return _report(head, instance, spec, advice)


def death_report(instance: Instance, spec: ServerSpec, culprit: str, how: str) -> str:
    """The same for a server that died while tests ran."""
    head = f"The server of {spec.model or spec.url} died during {culprit}: {how}"
    return _report(head, instance, spec, "")


def _report(head: str, instance: Instance, spec: ServerSpec, advice: str) -> str:
    text = tail(instance.log_path)
    rows = _diagnosis_rows(diagnose(text, state=instance.state())) if text else []
    if advice:
        rows.append(("do", advice))
    rows.append(("server", f"{instance.name}{f', image {spec.image}' if spec.image else ''}"))
    if instance.log_path:
        rows.append(("log", str(instance.log_path)))
    if spec.launcher == "external":
        rows.append(("try", f"curl -sS {spec.url}/v1/models"))
    lines = [head, *(f"  {name:<9} {value}" for name, value in rows)]
    if last := [line for line in text.splitlines() if line.strip()][-_TAIL_LINES:]:
        lines += ["", "The log ends with:", *(f"  | {line}" for line in last)]
    return redact("\n".join(lines))


def _diagnosis_rows(found: Diagnosis) -> list[tuple[str, str]]:
    rows = [("cause", found.title), ("evidence", found.evidence), ("do", found.remedy)]
    return [(name, value) for name, value in rows if value]
