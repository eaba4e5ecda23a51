"""What people see when a server did not start, or died, and what the reports say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vllm.diagnosis import Diagnosis, diagnose
from pytest_vllm.errors import ServerDied, StartFailed
from pytest_vllm.redaction import redact
from pytest_vllm.servers.logs import tail

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vllm.servers.server import Instance, State
    from pytest_vllm.spec import ServerSpec

_TAIL_LINES = 15


def start_failed(
    instance: Instance, spec: ServerSpec, what: str, elapsed_s: float, phase: str, advice: str
) -> StartFailed:
    """What happened, where, why, and what to do next, for a failed start."""
    where = f" in phase “{phase}”" if phase else ""
    head = f"{spec.model or spec.url} did not start: {what} (after {elapsed_s:.0f} s{where})"
    found = _diagnosis(instance.log_path, instance.state(), spec)
    error = StartFailed(_report(head, instance, spec, found, advice))
    error.diagnosis = for_reports(found)
    return error


def server_died(instance: Instance, spec: ServerSpec, culprit: str, how: str) -> ServerDied:
    """The same for a server that died while tests ran."""
    head = f"The server of {spec.model or spec.url} died during {culprit}: {how}"
    found = _diagnosis(instance.log_path, instance.state(), spec)
    error = ServerDied(_report(head, instance, spec, found, ""))
    error.diagnosis = for_reports(found)
    return error


def without_log(error: Exception) -> dict[str, Any] | None:
    """For a start that failed before there was a log: in our own words, or the engine's."""
    return for_reports(diagnose("", docker_error=str(error)))


def for_reports(found: Diagnosis | None) -> dict[str, Any] | None:
    """As the JSON results have it; without tokens, as everything that leaves us."""
    if found is None:
        return None
    return {k: redact(v) if isinstance(v, str) else v for k, v in found.as_dict().items()}


def _diagnosis(path: Path | None, state: State, spec: ServerSpec) -> Diagnosis | None:
    """None where there is no log; read from its begin, where the cause may stand."""
    if path is None:
        return None
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return diagnose(file, state=None if state.running else state, spec=spec)
    except OSError:
        return None


def _report(
    head: str, instance: Instance, spec: ServerSpec, found: Diagnosis | None, advice: str
) -> str:
    text = tail(instance.log_path)
    rows = _diagnosis_rows(found) if text and found else []
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
    evidence = found.evidence.replace("\n", "\n" + " " * 12)
    rows = [("cause", found.title), ("evidence", evidence), ("do", found.remedy)]
    return [(name, value) for name, value in rows if value]
