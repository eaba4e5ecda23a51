#!/usr/bin/env python3
"""From a fresh clone to a real run, with nothing but python3, venv and git.

    python3 bootstrap.py demo [PYTEST OPTIONS]   start real vLLM servers on this CPU, run the suite
    python3 bootstrap.py test [PYTEST OPTIONS]   run the project's own tests

Needs no GPU, no Docker, no root and no activated environment. Everything goes into two
directories of this checkout, .venv and .venv-engine, and caches into ~/.cache; delete them and
nothing is left. Run it as often as you like: what is up to date is not touched.
"""

# No `from __future__ import annotations` here: this one file must get as far as saying that a
# Python is too old, and Python 3.6 already stumbles over that line.
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - see above
    sys.exit(
        "pytest-vllm needs Python 3.10 or newer (3.11 or newer for `demo`); this is "
        "{}.{} at {}. Run this with a newer one, for example `python3.11 bootstrap.py`.".format(
            *sys.version_info[:2], sys.executable
        )
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
ENGINE = ROOT / ".venv-engine"
STAMP = "bootstrap.stamp"

# Three models whose every answer is known, small enough for a laptop.
DEMO = [
    "--vllm-launcher=process",
    f"--vllm-python={ENGINE / 'bin' / 'python'}",
    "--vllm-platform=cpu",
    "--vllm-model=known-answer/base",
    "--vllm-model=known-answer/context",
    "--vllm-model=known-answer/chat",
    "--vllm-max-model-len=1024",
]


class BootstrapError(Exception):
    """Something a person has to do first; the text says what."""


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the first word says; everything after it is pytest's."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if words else 2
    commands = {"demo": demo, "test": test}
    if words[0] not in commands:
        print(f"bootstrap: no command {words[0]!r}; there are: demo, test", file=sys.stderr)
        return 2
    try:
        return commands[words[0]](words[1:])
    except BootstrapError as error:
        print(f"bootstrap: {error}", file=sys.stderr)
        return 1


def demo(arguments: Sequence[str]) -> int:
    """Run the suite against real servers; the engine first, it has more to refuse."""
    prepare_engine(ENGINE)
    return run_pytest(prepare_project(VENV), [*DEMO, *arguments])


def test(arguments: Sequence[str]) -> int:
    """Run the project's own tests."""
    return run_pytest(prepare_project(VENV), arguments)


def prepare_engine(venv: Path) -> None:
    """Hand over to the one installer, which is also the Docker image's; it says what it does."""
    installer = ROOT / "docker" / "install_engine.py"
    command = [sys.executable, str(installer), "--target-venv", str(venv), "--compile", "--warm"]
    if subprocess.run(command, check=False).returncode:
        raise BootstrapError("the vLLM engine is not there, for the reason above.")


def prepare_project(venv: Path) -> Path:
    """Return the Python of an environment with this checkout and its test dependencies."""
    python = venv / "bin" / "python"
    key = stamp_key((ROOT / "pyproject.toml").read_bytes())
    stamp = venv / STAMP
    if python.exists() and stamp.is_file() and stamp.read_text(encoding="utf-8") == key:
        return python
    if not python.exists():
        make_venv(venv)
    install_project(python)
    stamp.write_text(key, encoding="utf-8")
    return python


def make_venv(venv: Path) -> None:
    """Create an environment; Debian and Ubuntu ship the module for that separately."""
    if venv.exists() and (not venv.is_dir() or any(venv.iterdir())):
        raise BootstrapError(
            f"{venv} is there already and is no virtual environment; it was left as it is. "
            "Move it away, or remove it yourself."
        )
    say(f"Making the environment {venv.name}")
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        raise BootstrapError(
            f"could not make the environment {venv}: {why_no_venv(made.stdout + made.stderr)}. "
            "On Debian and Ubuntu that takes a package of its own: "
            "`sudo apt install python3-venv`. Then run this again."
        )


def why_no_venv(output: str) -> str:
    """Name the usual reason; Debian's own text ends in the failing command, not in it."""
    return "ensurepip is missing" if "ensurepip" in output else last_line(output)


def install_project(python: Path) -> None:
    """Install this checkout (editable) with the `test` group, which pip knows since 25.1."""
    say("Installing pytest-vllm and what its tests need (about 30 MB)")
    run_pip(python, "--upgrade", "pip>=25.1")
    run_pip(python, "--editable", str(ROOT), "--group", f"{ROOT / 'pyproject.toml'}:test")


def run_pip(python: Path, *arguments: str) -> None:
    """Run the environment's pip, quiet unless it fails."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BootstrapError(
            f"pip could not install {' '.join(arguments)}: {last_line(done.stderr)}\n"
            "Without a way to PyPI, name your mirror with PIP_INDEX_URL; behind a proxy, set "
            "HTTPS_PROXY, and PIP_CERT to its certificate if it has one of its own. If the "
            f"environment itself is broken, remove {python.parent.parent}. Then run this again."
        )


def run_pytest(python: Path, arguments: Sequence[str]) -> int:
    """Become pytest: Ctrl-C and the exit code are then pytest's own."""
    os.chdir(ROOT)
    command = [str(python), "-m", "pytest", *arguments]
    say("$ " + " ".join(command))
    os.execv(command[0], command)


def stamp_key(pyproject: bytes) -> str:
    """Hash what the environment depends on: the project's metadata and this Python."""
    return hashlib.sha256(pyproject + sys.version.encode()).hexdigest()


def last_line(text: str) -> str:
    """Return the end of a tool's output, where it says what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def say(line: str) -> None:
    """Print progress at once; pytest's own output follows on the same stream."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
