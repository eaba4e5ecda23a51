"""bootstrap.py without the network: what it says, and what it would run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bootstrap

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Record what would become of this process; nothing is installed."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, command: commands.append(command))
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(bootstrap, "prepare_project", lambda _: tmp_path / "python")
    monkeypatch.setattr(bootstrap, "prepare_engine", lambda _: None)
    return commands


def test_test_hands_everything_on_to_pytest(ran: list[list[str]], tmp_path: Path) -> None:
    bootstrap.main(["test", "-k", "spec", "--help"])
    assert ran == [[str(tmp_path / "python"), "-m", "pytest", "-k", "spec", "--help"]]


def test_demo_serves_three_models_on_the_cpu_in_a_process(ran: list[list[str]]) -> None:
    bootstrap.main(["demo", "-x"])
    (command,) = ran
    models = [word.split("=")[1] for word in command if word.startswith("--vllm-model=")]
    assert models == ["known-answer/base", "known-answer/context", "known-answer/chat"]
    assert "--vllm-launcher=process" in command
    # The user's own words come last, so that they win.
    assert command[-1] == "-x"


@pytest.mark.parametrize(("words", "code"), [(["--help"], 0), (["-h"], 0), ([], 2)])
def test_help_shows_both_commands(
    words: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(words) == code
    out = capsys.readouterr().out
    assert "bootstrap.py demo" in out
    assert "bootstrap.py test" in out


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main(["install"]) == 2
    assert "no command 'install'; there are: demo, test" in capsys.readouterr().err


def test_an_old_python_is_told_so_without_a_traceback() -> None:
    source = (
        "import sys, runpy; sys.version_info = (3, 8, 10, 'final', 0); "
        f"runpy.run_path({str(ROOT / 'bootstrap.py')!r})"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("pytest-vllm needs Python 3.10 or newer")
    assert "Traceback" not in done.stderr


def test_an_environment_that_is_up_to_date_is_used_as_it_is(tmp_path: Path) -> None:
    python = script(tmp_path / "bin" / "python", "exit 9")
    key = bootstrap.stamp_key((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / bootstrap.STAMP).write_text(key)
    assert bootstrap.prepare_project(tmp_path) == python


def test_a_changed_project_is_installed_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script(tmp_path / "bin" / "python", f'echo "$@" >> {log}')
    (tmp_path / bootstrap.STAMP).write_text("of an older pyproject.toml")
    bootstrap.prepare_project(tmp_path)
    upgrade, install = log.read_text().splitlines()
    assert upgrade.endswith("--upgrade pip>=25.1")
    assert install.endswith(f"--editable {ROOT} --group {ROOT / 'pyproject.toml'}:test")
    assert (tmp_path / bootstrap.STAMP).read_text() != "of an older pyproject.toml"


def test_a_failed_installation_is_explained_and_leaves_no_stamp(tmp_path: Path) -> None:
    script(tmp_path / "bin" / "python", "echo ERROR: no matching distribution >&2; exit 1")
    with pytest.raises(bootstrap.BootstrapError, match=r"no matching dist(.|\n)*PIP_INDEX_URL"):
        bootstrap.prepare_project(tmp_path)
    assert not (tmp_path / bootstrap.STAMP).exists()


def test_a_missing_venv_module_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "venv"
    body = f"mkdir -p {made}/bin; echo 'ensurepip is not available'; exit 1"
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python3", body)))
    with pytest.raises(bootstrap.BootstrapError, match=r"ensurepip is missing.*python3-venv"):
        bootstrap.prepare_project(made)
    # A half-made environment would be taken for a whole one the next time.
    assert not made.exists()


def test_an_engine_that_cannot_be_installed_ends_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "python3", "exit 1")))
    assert bootstrap.main(["demo"]) == 1
    assert "engine is not there" in capsys.readouterr().err


def test_the_engine_gets_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    python = script(tmp_path / "python3", f'echo "$@" > {log}')
    monkeypatch.setattr(sys, "executable", str(python))
    bootstrap.prepare_engine(tmp_path / "engine")
    installer = ROOT / "docker" / "install_engine.py"
    assert log.read_text().split() == [
        *(str(installer), "--target-venv", str(tmp_path / "engine")),
        *("--compile", "--warm"),
    ]


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_folder_that_is_no_environment_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    precious = tmp_path / "file"
    precious.write_text("mine")
    with pytest.raises(bootstrap.BootstrapError, match="no virtual environment; it was left"):
        bootstrap.make_venv(tmp_path)
    assert precious.read_text() == "mine"
