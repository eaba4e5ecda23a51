from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.servers import argv
from pytest_vllm.spec import ServerSpec

MODULE = "vllm.entrypoints.openai.api_server"


def flags(model: str = "m", served_from: str = "", **spec: Any) -> tuple[str, ...]:
    """The flags after host and port."""
    server = ServerSpec(model, **spec)
    return argv.flags(server, served_from or model, host="0.0.0.0", port=8000)[2:]


def environment(ours: dict[str, str] | None = None, **spec: Any) -> dict[str, str]:
    return argv.environment(ServerSpec(**({"model": "m"} | spec)), ours or {}, 1800.0)


def test_host_and_port_come_first() -> None:
    words = argv.flags(ServerSpec("m"), "m", host="127.0.0.1", port=0)
    assert words[:2] == ("--host=127.0.0.1", "--port=0")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ()),
        ({"gpus": 8}, ("--tensor-parallel-size=8",)),
        ({"gpu_util": 0.85}, ("--gpu-memory-utilization=0.85",)),
        ({"max_model_len": 4096}, ("--max-model-len=4096",)),
        ({"dtype": "float16"}, ("--dtype=float16",)),
        ({"trust_remote_code": True}, ("--trust-remote-code",)),
        ({"gpus": 2, "args": ("--a", "b")}, ("--tensor-parallel-size=2", "--a", "b")),
        ({"platform": "cpu"}, ("--enforce-eager",)),
        ({"platform": "cpu", "gpus": 2}, ("--enforce-eager",)),
        ({"platform": "cpu", "args": ("--no-enforce-eager",)}, ("--no-enforce-eager",)),
        ({"platform": "cpu", "args": ("--enforce_eager",)}, ("--enforce_eager",)),
    ],
    ids=str,
)
def test_a_spec_as_flags(spec: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert flags(**spec) == expected


def test_a_model_at_another_path_is_served_under_the_name_that_was_asked_for() -> None:
    assert flags("known-answer/base", "/models/base") == ("--served-model-name=known-answer/base",)


def test_the_users_own_served_name_stays_the_only_one() -> None:
    args = ("--served_model_name", "x")
    assert flags("known-answer/base", "/models/base", args=args) == args


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ((), "m"),
        (("--served-model-name=x",), "x"),
        (("--served_model_name=x",), "x"),
        (("--served-model-name", "x", "y"), "x"),
        (("--served-model-name=x y",), "x y"),
        (("--served-model-name=x", "--served-model-name=y"), "y"),
        (("--served-model-name",), "m"),
        (("--other=1", "served-model-name"), "m"),
    ],
)
def test_the_name_that_v1_models_must_list(args: tuple[str, ...], name: str) -> None:
    assert argv.served_name(ServerSpec("m", args=args)) == name


@pytest.mark.parametrize(
    ("args", "there"),
    [
        (["--max-num-seqs=4"], True),
        (["--max_num_seqs", "4"], True),
        (["--max-num-seqs-more=4"], False),
        (["max-num-seqs"], False),
        ([], False),
    ],
)
def test_a_flag_is_found_in_either_spelling(args: list[str], there: bool) -> None:
    assert argv.has_flag(args, "--max-num-seqs") is there


@pytest.mark.parametrize(
    "entrypoint",
    [
        ["vllm", "serve"],
        ["/opt/venv/bin/vllm", "serve"],
        ["sh", "/usr/local/lib/pytest-vllm/entrypoint.sh"],
    ],
    ids=str,
)
def test_an_entrypoint_that_serves_is_kept(entrypoint: list[str]) -> None:
    assert argv.command(entrypoint, "m", ["--a"]) == argv.Command(None, ("m", "--a"))


def test_the_older_entrypoint_is_kept_and_takes_the_model_as_a_flag() -> None:
    command = argv.command(["python3", "-m", MODULE], "m", ["--a"])
    assert command == argv.Command(None, ("--model=m", "--a"))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The PATH of an image without any entrypoint: empty, but for what a test adds."""
    path = tmp_path / "bin"
    path.mkdir()
    return path


def program(path: Path, name: str) -> None:
    """Install a program that prints how it was called."""
    (path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
    (path / name).chmod(0o755)


def run(path: Path, entrypoint: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run what a container would run."""
    command = argv.command(entrypoint, "my model", ["--a=b c", "--d"])
    return subprocess.run(
        [*(command.entrypoint or ()), *command.words],
        env={"PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("entrypoint", [None, [], ["/bin/bash"], ["/start.sh"]], ids=str)
def test_any_other_entrypoint_is_replaced_by_vllm_serve(
    image: Path, entrypoint: list[str] | None
) -> None:
    program(image, "vllm")
    program(image, "python3")
    assert run(image, entrypoint).stdout == "vllm serve my model --a=b c --d\n"


def test_an_image_without_the_vllm_command_runs_the_module(image: Path) -> None:
    program(image, "python3")
    assert run(image).stdout == f"python3 -m {MODULE} --model=my model --a=b c --d\n"


def test_an_image_with_neither_says_so(image: Path) -> None:
    ended = run(image)
    assert (ended.returncode, ended.stderr) == (
        127,
        "error: neither vllm nor python3 is on the PATH of this image\n",
    )


@pytest.mark.parametrize("name", ["HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_API_KEY"])
def test_hub_settings_and_keys_are_handed_on(name: str) -> None:
    assert environment({name: "ours"})[name] == "ours"


@pytest.mark.parametrize("ours", [{"HF_TOKEN": ""}, {"OTHER": "x"}])
def test_what_is_empty_or_not_the_servers_business_is_not_handed_on(ours: dict[str, str]) -> None:
    assert not ours.keys() & environment(ours).keys()


@pytest.mark.parametrize("name", ["VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "PYTHONUNBUFFERED"])
def test_a_server_under_test_reports_to_nobody_but_its_log_at_once(name: str) -> None:
    assert environment()[name] == "1"


def test_the_servers_own_limit_is_longer_than_ours() -> None:
    assert int(environment()["VLLM_ENGINE_READY_TIMEOUT_S"]) > 1800


@pytest.mark.parametrize("model", ["known-answer/base", "/models/mine"])
def test_a_model_on_disk_waits_for_no_hub(model: str) -> None:
    assert environment(model=model)["HF_HUB_OFFLINE"] == "1"


def test_a_model_of_the_hub_may_be_downloaded() -> None:
    assert "HF_HUB_OFFLINE" not in environment(model="facebook/opt-125m")


def test_a_cpu_server_takes_one_gib_for_its_kv_cache() -> None:
    assert environment(platform="cpu")["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_a_cpu_server_takes_what_our_own_variable_says_for_its_kv_cache() -> None:
    ours = {"VLLM_CPU_KVCACHE_SPACE": "8"}
    assert environment(ours, platform="cpu")["VLLM_CPU_KVCACHE_SPACE"] == "8"


@pytest.mark.parametrize("spec", [{"platform": "rocm"}, {"platform": "cpu", "gpu_util": 0.5}])
def test_who_has_a_share_of_the_memory_needs_no_size_for_its_kv_cache(spec: dict[str, Any]) -> None:
    assert "VLLM_CPU_KVCACHE_SPACE" not in environment(**spec)


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ({"platform": "cpu"}, "1"),
        ({"platform": "cpu", "args": ("--no-enforce-eager",)}, None),
        ({"platform": "rocm"}, None),
    ],
)
def test_an_eager_cpu_server_compiles_nothing(spec: dict[str, Any], value: str | None) -> None:
    assert environment(**spec).get("TORCHDYNAMO_DISABLE") == value


def test_the_users_own_variables_win() -> None:
    given = environment({"HF_TOKEN": "ours"}, env=(("HF_TOKEN", "theirs"), ("X", "1")))
    assert (given["HF_TOKEN"], given["X"]) == ("theirs", "1")


def test_a_variable_by_name_is_ours_if_we_have_it() -> None:
    given = environment({"A": "1"}, env=(("A", None), ("B", None)))
    assert given["A"] == "1"
    assert "B" not in given
