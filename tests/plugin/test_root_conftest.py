"""What plain `pytest` means in the repository: its own tests, or the suite."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def collected(*arguments: str) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "--collect-only",
            "-q",
            "-p",
            "no:cacheprovider",
            *arguments,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vllm-model", "facebook/opt-125m"),
        ("--vllm-url", "http://127.0.0.1:9"),
        ("-m", "core"),
        ("-m", "core and not chat_model"),
    ],
)
def test_a_model_a_url_or_a_level_means_the_suite(arguments: tuple[str, ...]) -> None:
    text = collected(*arguments)
    assert "pytest_vllm/suite/test_completions.py::" in text
    assert "tests/unit" not in text


def test_a_path_means_that_path() -> None:
    text = collected("tests/unit/test_spec.py", "--vllm-model", "a/b")
    assert "tests/unit/test_spec.py::" in text
    assert "pytest_vllm/suite" not in text


def test_a_level_selects_only_its_tests() -> None:
    assert "test_models.py" not in collected("-m", "core")


def test_nothing_asked_means_the_projects_own_tests() -> None:
    text = collected("-m", "not e2e")
    assert "tests/unit/test_spec.py::" in text
    assert "pytest_vllm/suite" not in text
