"""`python -m pytest_vllm MODEL …`: the suite on a model, from anywhere; a thin alias of pytest."""

from __future__ import annotations

import sys

USAGE = """\
usage: python -m pytest_vllm MODEL [pytest options]

Start a vLLM server for MODEL and run the conformance suite on it. The same as
    pytest --pyargs pytest_vllm.suite --vllm-model MODEL [pytest options]
All options: pytest --help, group “vLLM servers”."""


def main(arguments: list[str]) -> int:
    """Run the suite; returns pytest's exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    import pytest

    model = [] if arguments[0].startswith("-") else [f"--vllm-model={arguments.pop(0)}"]
    return int(pytest.main(["--pyargs", "pytest_vllm.suite", *model, *arguments]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
