"""What the plugin costs a pytest run that has nothing to do with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_CONFTEST = """
import sys
def pytest_unconfigure():
    print("MODULES", *sys.modules)
"""


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that an unrelated run has imported at its end, with no plugin but ours."""
    folder = tmp_path_factory.mktemp("unrelated")
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "test_it.py").write_text("def test_it(): pass\n")
    options = ["-q", "-s", "-p", "no:cacheprovider", "-p", "pytest_vllm.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=folder,
        env=os.environ
        | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MODULES")]
    return set(line.split()[1:])


@pytest.mark.parametrize(
    "heavy",
    ["docker", "httpx", "asyncio", "openai", "psutil", "numpy", "multiprocessing", "tomllib"],
)
def test_an_unrelated_run_does_not_import(heavy: str, imported: set[str]) -> None:
    assert "pytest_vllm.plugin" in imported
    assert heavy not in imported


def test_an_unrelated_run_imports_the_plugin_and_the_option_table_only(imported: set[str]) -> None:
    assert {name for name in imported if name.startswith("pytest_vllm")} == {
        "pytest_vllm",
        "pytest_vllm.plugin",
        "pytest_vllm.settings",
        "pytest_vllm.parsers",
        "pytest_vllm.errors",
    }
