"""`python -m pytest_vllm MODEL …` runs the suite; `… diagnose`, `doctor` and `models` explain."""

from __future__ import annotations

import sys

USAGE = """\
usage: python -m pytest_vllm MODEL [pytest options]
       python -m pytest_vllm diagnose [FILE | - | --container NAME] [--json]
       python -m pytest_vllm doctor [--vllm-model MODEL …] [--json] [--vllm options]
       python -m pytest_vllm models [ID …] [--json]

Start a vLLM server for MODEL and run the conformance suite on it. The same as
    pytest --pyargs pytest_vllm.suite --vllm-model MODEL [pytest options]
All options: pytest --help, group “vLLM servers”.

diagnose says why a server failed, from its log (docker logs NAME 2>&1), and what to do.
doctor says what stands in the way on this machine, before a start, and whether MODEL fits.
models says what is known of models, offline: chat or base, size, GPUs."""


def main(arguments: list[str]) -> int:
    """Run the suite; returns pytest's exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] == "diagnose":
        from pytest_vllm.diagnosis.command import main as diagnose

        return diagnose(arguments[1:])
    if arguments[0] == "doctor":
        from pytest_vllm.preflight.doctor import main as doctor

        return doctor(arguments[1:])
    if arguments[0] == "models":
        from pytest_vllm.models.command import main as models

        return models(arguments[1:])
    import pytest

    model = [] if arguments[0].startswith("-") else [f"--vllm-model={arguments.pop(0)}"]
    return int(pytest.main(["--pyargs", "pytest_vllm.suite", *model, *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
