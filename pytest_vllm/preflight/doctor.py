"""`python -m pytest_vllm doctor`: the preflight for a machine, and for models, without a start.

pytest itself reads the options, so that ini file, environment and command line count as in a
run; before it would collect a test, we answer instead.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.errors import LaunchError
from pytest_vllm.preflight import inventory
from pytest_vllm.preflight.examine import examine
from pytest_vllm.preflight.finding import Finding
from pytest_vllm.preflight.plan import Machine, Plan
from pytest_vllm.preflight.timeouts import limits
from pytest_vllm.redaction import redact
from pytest_vllm.run import Run
from pytest_vllm.servers.devices import detect_platform
from pytest_vllm.servers.holders import docker_names
from pytest_vllm.servers.launcher import LaunchPolicy, launcher_for

if TYPE_CHECKING:
    from pytest_vllm.preflight.inventory import Row
    from pytest_vllm.spec import ServerSpec

#: Where `sys`, `proc` and `dev` are.
ROOT = Path("/")

USAGE = """\
usage: python -m pytest_vllm doctor [--vllm-model MODEL …] [--json] [other --vllm options]

Say what stands in the way of serving models on this machine: engine, image, devices, groups,
driver, free GPU memory and who holds it, disk, cache, token, versions, time limits. With a model
also: does it fit, and on how many GPUs. Nothing is started and nothing is downloaded.
Exit code: 0 where nothing is refused, else 1."""


@dataclass(frozen=True)
class Part:
    """The machine, or one model: facts and findings."""

    title: str
    rows: Sequence[Row]
    findings: Sequence[Finding] = field(default=())

    def lines(self) -> list[str]:
        """For people."""
        lines = [self.title, *(f"  {name:<15} {value}" for name, value in self.rows)]
        for finding in self.findings:
            word = "REFUSED" if finding.level == "refuse" else "warning"
            lines.append(f"  {word:<15} {finding.what}")
            lines += [f"  {'do':<15} {finding.remedy}"] if finding.remedy else []
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "title": self.title,
            "facts": [list(row) for row in self.rows],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def main(arguments: Sequence[str]) -> int:
    """Examine; returns 0 where nothing is refused, else 1, or pytest's code for a wrong option."""
    if "-h" in arguments or "--help" in arguments:
        print(USAGE)
        return 0
    asked = [argument for argument in arguments if argument != "--json"]
    doctor = _Doctor(as_json="--json" in arguments)
    # No conftest.py: none of the user's code has a say here, and none may break it.
    return int(pytest.main(["--noconftest", *asked], plugins=[doctor]))


class _Doctor:
    """A plugin that answers instead of a test run."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        """Print everything; the result is the exit code."""
        parts = examine_all(config, ROOT, os.environ)
        refused = any(f.level == "refuse" for part in parts for f in part.findings)
        if self._as_json:
            text = json.dumps(
                {"ok": not refused, "parts": [part.as_dict() for part in parts]},
                ensure_ascii=False,
            )
        else:
            lines = [line for part in parts for line in part.lines()]
            verdict = "Something is in the way." if refused else "Nothing is in the way."
            text = "\n".join([*lines, verdict])
        print(redact(text))
        return 1 if refused else 0


def examine_all(config: pytest.Config, root: Path, environ: Mapping[str, str]) -> list[Part]:
    """The machine first, then each model that the user named."""
    run = Run.of(config)
    settings = run.settings
    policy = LaunchPolicy("doctor", Path(), settings["pull"], settings["startup-timeout"])
    specs = run.specs if settings["model"] else ()
    first = run.specs[0]
    resolved, why, has_image = _resolved(first, policy)
    machine = Machine(root, environ, settings["pull"], has_image)
    rows = [
        *inventory.software(config),
        inventory.engine(),
        inventory.local_vllm(first.python),
        ("platform", resolved.platform),
        *inventory.hardware(root, docker_names),
        *inventory.storage(Plan(resolved, machine).cache_dir, environ),
    ]
    findings = [*why, *limits(config, policy.startup_timeout_s)]
    parts = [Part("this machine", rows, findings)]
    return [*parts, *(_model_part(spec, policy, machine) for spec in specs)]


def _resolved(spec: ServerSpec, policy: LaunchPolicy) -> tuple[ServerSpec, list[Finding], Any]:
    """The spec as it would be started, or why it would not."""
    try:
        launcher = launcher_for(spec, policy)
        return launcher.resolve(spec), [], getattr(launcher, "has_image", None)
    except LaunchError as error:
        said = " ".join(str(error).split())
        return spec, [Finding("refuse", "docker_daemon_down", said)], None


def _model_part(spec: ServerSpec, policy: LaunchPolicy, machine: Machine) -> Part:
    resolved, why, _ = _resolved(spec, policy)
    if why and resolved.platform == "auto":  # nothing to start it with, and still: does it fit?
        resolved = replace(resolved, platform=detect_platform(machine.root))
    rows = list(inventory.model(Plan(resolved, machine)))
    return Part(spec.model, rows, examine(resolved, machine))
