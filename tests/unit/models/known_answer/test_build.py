from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_vllm.models.known_answer import NAMES, UnknownKnownAnswerError, build
from pytest_vllm.models.known_answer.cache import cache_directory

FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_complete_and_leaves_no_draft(name: str, tmp_path: Path) -> None:
    path = build(name, tmp_path)
    assert {file.name for file in path.iterdir()} == FILES
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("known-answer/base", "base-2-315fe6e9e01b"),
        ("known-answer/context", "context-2-f072ddf25ea8"),
        ("known-answer/chat", "chat-2-49ad5cbebbf0"),
    ],
)
def test_the_bytes_are_those_that_were_tried_on_a_real_vllm(
    name: str, folder: str, tmp_path: Path
) -> None:
    # Another digest: raise FORMAT if ids or the formula changed, and try it on a real server.
    assert build(name, tmp_path).name == folder


def test_two_builds_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = (build("known-answer/chat", tmp_path / place) for place in "ab")
    assert first.name == second.name
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in FILES)


def test_a_checkpoint_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    path = build("known-answer/base", tmp_path)
    before = (path / "config.json").stat()
    assert build("known-answer/base", tmp_path) == path
    assert (path / "config.json").stat() == before


def test_processes_that_build_at_once_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pytest_vllm.models.known_answer import build;"
        "sys.stdin.read(1); print(build('known-answer/base', Path(sys.argv[1])))"
    )
    start, go = os.pipe()
    command = [sys.executable, "-c", code, str(tmp_path)]
    builders = [
        subprocess.Popen(command, stdin=start, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    os.close(start)
    os.close(go)  # end of file reaches all of them in the same moment
    results = [builder.communicate(timeout=60)[0].strip() for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0]
    assert set(results) == {str(path) for path in tmp_path.iterdir()}


def test_a_builder_that_comes_second_uses_the_first_ones_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = build("known-answer/base", tmp_path)
    seen = iter([False])
    really = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda self: next(seen, None) is None and really(self))
    assert build("known-answer/base", tmp_path) == path
    assert list(tmp_path.iterdir()) == [path]


def test_everybody_may_read_the_files_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = build("known-answer/base", tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        build("known-answer/base", tmp_path / "file")


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownKnownAnswerError, match="choose one of known-answer/base"):
        build("known-answer/bass", tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_cache_is_where_xdg_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_directory() == Path("/somewhere/pytest-vllm/known-answer")
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_directory() == Path("/home/me/.cache/pytest-vllm/known-answer")


def test_neither_importing_nor_building_needs_numpy_or_safetensors(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import pytest_vllm.models.known_answer as known;"
        "known.build('known-answer/base', Path(sys.argv[1])); known.predictor('known-answer/base');"
        "print(sorted({'numpy', 'safetensors'} & set(sys.modules)))"
    )
    run = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.check_output(run, text=True, timeout=60) == "[]\n"
