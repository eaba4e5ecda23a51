"""`python -m pytest_vllm diagnose`: the diagnosis for people who do not use pytest."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_vllm.diagnosis.diagnose import Diagnosis, diagnose
from pytest_vllm.diagnosis.ending import Ending
from pytest_vllm.redaction import redact


def main(arguments: Sequence[str]) -> int:
    """Diagnose a log; returns 0 where a cause is known (or nothing is wrong), 1 where not, 2 for a
    mistake of the user.
    """
    options = _parser().parse_args(arguments)
    try:
        found = _of_container(options.container) if options.container else _of_file(options.file)
    except (OSError, ValueError) as error:
        print(f"diagnose: {error}", file=sys.stderr)
        return 2
    print(redact(json.dumps(found.as_dict(), ensure_ascii=False) if options.json else _text(found)))
    return 1 if found.cause == "unknown" else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_vllm diagnose",
        description="Say why a vLLM server failed, from its log, and what to do.",
    )
    parser.add_argument("file", nargs="?", default="-", help="Log file, or - for standard input")
    parser.add_argument(
        "--container", metavar="NAME", help="Ask Docker for the log and the end of it"
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    return parser


def _of_file(name: str) -> Diagnosis:
    if name == "-":
        return diagnose(sys.stdin.read())
    return diagnose(Path(name).read_text(errors="replace"))


def _of_container(name: str) -> Diagnosis:
    """Raises ValueError where there is no such container, or no engine."""
    import docker

    try:
        container = docker.from_env().containers.get(name)
        log, state = container.logs().decode(errors="replace"), container.attrs["State"]
    except docker.errors.DockerException as error:
        found = diagnose("", docker_error=str(error))
        raise ValueError(f"{found.title} {found.remedy}\n  {error}") from None
    ended = not state.get("Running")
    ending = Ending(state.get("ExitCode"), state.get("OOMKilled")) if ended else None
    return diagnose(log, state=ending, docker_error=state.get("Error") or None)


def _text(found: Diagnosis) -> str:
    rows = [
        ("cause", f"{found.title} [{found.cause}]"),
        ("evidence", found.evidence),
        ("do", found.remedy),
    ]
    rows.append(("also", ", ".join(found.also)))
    return "\n".join(f"{name:<9} {value}" for name, value in rows if value)
