"""At the end of a run: JUnit suite properties and the JSON results (docs/results.md)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.redaction import redact
from pytest_vllm.report.facts import failed_facts, server_facts

if TYPE_CHECKING:
    from pytest_vllm.run import Run

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA = 1

_PROPERTIES = (
    "model",
    "image",
    "image_id",
    "image_digest",
    "version",
    "platform",
    "gpus",
    "launcher",
    "url",
    "startup_s",
)


def write(run: Run, session: pytest.Session) -> None:
    """Hand the facts to pytest's JUnit writer, and write `--vllm-results`."""
    ready, failed = run.servers_by_spec(), run.failures()
    if not (run.records.all() or ready or failed):
        return  # no test wanted a server: nothing of an earlier run is overwritten
    why = run.diagnoses()
    servers = [
        server_facts(server, failed.get(spec), why.get(spec)) for spec, server in ready.items()
    ]
    servers += [
        failed_facts(run.model_of(spec), report, why.get(spec))
        for spec, report in failed.items()
        if spec not in ready
    ]
    _add_junit_properties(session.config, servers)
    if run.settings["results"]:
        _write_json(run, session, servers)


def _add_junit_properties(config: pytest.Config, servers: list[dict[str, Any]]) -> None:
    """`vllm.model`, `vllm.image` … for the first server, `vllm.2.model` … for the next."""
    plugins = config.pluginmanager.get_plugins()
    xml: Any = next((p for p in plugins if hasattr(p, "add_global_property")), None)
    if xml is None:
        return
    for number, facts in enumerate(servers, start=1):
        prefix = "vllm" if number == 1 else f"vllm.{number}"
        for name in _PROPERTIES:
            if facts.get(name) is not None:
                xml.add_global_property(f"{prefix}.{name}", facts[name])
        if able := facts.get("capabilities"):
            xml.add_global_property(f"{prefix}.capabilities", ", ".join(sorted(able["names"])))
        if facts.get("notes"):
            xml.add_global_property(f"{prefix}.notes", "; ".join(facts["notes"]))
        if facts.get("error"):
            xml.add_global_property(f"{prefix}.error", facts["error"].splitlines()[0])
        if why := facts.get("diagnosis"):
            xml.add_global_property(f"{prefix}.cause", why["cause"])
            xml.add_global_property(f"{prefix}.remedy", why["remedy"])


def _write_json(run: Run, session: pytest.Session, servers: list[dict[str, Any]]) -> None:
    from pytest_vllm import __version__

    results = {
        "schema": SCHEMA,
        "run": {
            "id": run.id,
            "pytest_vllm": __version__,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started_at)),
            "duration_s": round(time.time() - run.started_at, 3),
            "exit_status": int(session.exitstatus),
            "strict": bool(run.settings["strict"]),
        },
        "servers": servers,
        "tests": [record.as_dict() for record in run.records.all()],
    }
    path = Path(run.settings["results"]).expanduser()
    text = redact(json.dumps(results, indent=2, ensure_ascii=False))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        # The run's own verdict and other reports must not be lost for it.
        run.complain(f"--vllm-results: {path} could not be written: {error}")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
