"""docker/entrypoint.sh, run by a real sh; `vllm` and `python3` are stubs that print their argv."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ENTRYPOINT = Path(__file__).parents[3] / "docker" / "entrypoint.sh"
OLD = ["-m", "vllm.entrypoints.openai.api_server"]


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    for name in ("vllm", "python3"):
        stub = tmp_path / name
        stub.write_text('#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@"\n')
        stub.chmod(0o755)
    return tmp_path


def run(stubs: Path, words: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ENTRYPOINT), *words],
        env={"PATH": f"{stubs}:{os.defpath}", **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "run_as"),
    [
        (["facebook/opt-125m"], ["vllm", "serve", "facebook/opt-125m"]),
        (["M", "--port", "8000"], ["vllm", "serve", "M", "--port", "8000"]),
        (["--model", "M"], ["vllm", "serve", "--model", "M"]),
        (["--help"], ["vllm", "serve", "--help"]),
        (["vllm", "serve", "M", "--x"], ["vllm", "serve", "M", "--x"]),
        (["vllm", "--version"], ["vllm", "--version"]),
        (["vllm"], ["vllm"]),
        (["python", *OLD, "--model", "M"], ["vllm", "serve", "--model", "M"]),
        (["python3", *OLD, "--model", "M"], ["vllm", "serve", "--model", "M"]),
        (["python", "-c", "print(1)"], ["python3", "-c", "print(1)"]),
        (["python3"], ["python3"]),
        (["python", "-m", "pip"], ["python3", "-m", "pip"]),
        # A model whose name starts like a program is still a model.
        (["vllm-project/M"], ["vllm", "serve", "vllm-project/M"]),
        (["./sh"], ["vllm", "serve", "./sh"]),
    ],
)
def test_every_form_becomes_one_command(stubs: Path, given: list[str], run_as: list[str]) -> None:
    assert run(stubs, given).stdout.splitlines() == run_as


@pytest.mark.parametrize(
    "word", ["two words", "", "$HOME", "`id`", "*", '{"a": "b c"}', "; exit 9", "a'b\"c"]
)
def test_arguments_arrive_as_they_were_given(stubs: Path, word: str) -> None:
    done = run(stubs, ["M", "--flag", word])
    assert done.stdout.split("\n") == ["vllm", "serve", "M", "--flag", word, ""]


@pytest.mark.parametrize("form", [[], ["vllm", "serve"], ["python", *OLD]])
def test_an_image_without_compiler_serves_eagerly(stubs: Path, form: list[str]) -> None:
    done = run(stubs, [*form, "M", "--no-enforce-eager"], SERVE_EAGER="1")
    # vLLM wants the model first; the user's own flag comes later, and the last one wins.
    assert done.stdout.split() == ["vllm", "serve", "M", "--enforce-eager", "--no-enforce-eager"]


def test_a_model_that_is_an_option_stays_behind_the_flag(stubs: Path) -> None:
    done = run(stubs, ["--model", "M"], SERVE_EAGER="1")
    assert done.stdout.split() == ["vllm", "serve", "--enforce-eager", "--model", "M"]


def test_other_vllm_commands_get_no_flag_of_serve(stubs: Path) -> None:
    assert run(stubs, ["vllm", "bench"], SERVE_EAGER="1").stdout.split() == ["vllm", "bench"]


@pytest.mark.parametrize("shell", ["sh", "/bin/sh"])
def test_a_shell_is_a_shell(stubs: Path, shell: str) -> None:
    assert run(stubs, [shell, "-c", "echo hello"]).stdout == "hello\n"


@pytest.mark.parametrize("words", [[], [""]])
def test_no_model_is_asked_for_with_an_example(stubs: Path, words: list[str]) -> None:
    done = run(stubs, words)
    assert done.returncode == 2
    assert "facebook/opt-125m" in done.stderr


def test_the_exit_code_is_the_servers(stubs: Path) -> None:
    (stubs / "vllm").write_text("#!/bin/sh\nexit 7\n")
    assert run(stubs, ["M"]).returncode == 7


def test_the_server_replaces_the_script(stubs: Path) -> None:
    """Without exec the shell would stay process 1 and SIGTERM would end there."""
    (stubs / "vllm").write_text("#!/bin/sh\necho $$\n")
    command = ["sh", "-c", 'echo $$; exec sh "$0" M', str(ENTRYPOINT)]
    env = {"PATH": f"{stubs}:{os.defpath}"}
    before, after = subprocess.check_output(command, env=env, text=True).split()
    assert before == after
