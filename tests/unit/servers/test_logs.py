from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vllm.servers import logs
from tests.unit.servers.fakes import FakeTime


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("facebook/opt-125m", "facebook_opt-125m.log"),
        ("Qwen/Qwen2.5-0.5B", "Qwen_Qwen2.5-0.5B.log"),
        ("~/my models/x", "my_models_x.log"),
    ],
)
def test_a_model_names_a_log_file(label: str, name: str) -> None:
    assert logs.log_name(label) == name


def test_a_log_never_replaces_an_older_one(log: Path) -> None:
    names = []
    for _ in range(3):
        path = logs.unused(log)
        path.touch()
        names.append(path.name)
    assert names == ["server.log", "server-2.log", "server-3.log"]


def test_a_dot_in_the_name_is_no_extension(tmp_path: Path) -> None:
    path = tmp_path / logs.log_name("Qwen2.5-0.5B")
    path.touch()
    assert logs.unused(path).name == "Qwen2.5-0.5B-2.log"


def test_the_tail_is_the_end(log: Path) -> None:
    append(log, b"0123456789")
    assert (logs.tail(log, 4), logs.tail(log, 40)) == ("6789", "0123456789")


def test_a_slice_is_what_was_written_since(log: Path) -> None:
    append(log, b"before\n")
    start = logs.end_of(log)
    append(log, b"after\n")
    assert logs.slice_from(log, start) == "after\n"


def test_bytes_that_are_no_text_do_not_break_a_slice(log: Path) -> None:
    append(log, b"ok \xff\xfe")
    assert logs.slice_from(log, 0).startswith("ok ")


@pytest.mark.parametrize("path", [None, Path("/nowhere/server.log")])
def test_a_log_that_is_not_there_is_empty(path: Path | None) -> None:
    assert (logs.end_of(path), logs.tail(path), logs.slice_from(path, 3)) == (0, "", "")
    assert logs.LogFollower(path).new_lines() == []


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(logs, "time", fake)
    return fake


def test_a_log_has_settled_when_nothing_comes_for_a_moment(
    log: Path, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_words = [b"one", b"two"]

    def sleep(seconds: float) -> None:
        time.now += seconds
        append(log, last_words.pop(0) if last_words else b"")

    monkeypatch.setattr(time, "sleep", sleep)
    logs.settle(log)
    assert log.read_text() == "onetwo"
    assert time.now == pytest.approx(1000.15)


def test_a_log_that_never_settles_is_waited_for_half_a_second(
    log: Path, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        time.now += seconds
        append(log, b"more\n")

    monkeypatch.setattr(time, "sleep", sleep)
    logs.settle(log)
    assert time.now == pytest.approx(1000.5, abs=0.051)


def test_every_line_is_followed_once(log: Path) -> None:
    follower = logs.LogFollower(log)
    append(log, b"one\ntwo\n")
    assert follower.new_lines() == ["one", "two"]
    append(log, b"three\n")
    assert follower.new_lines() == ["three"]
    assert follower.new_lines() == []


def test_half_a_line_waits_for_its_end(log: Path) -> None:
    follower = logs.LogFollower(log)
    append(log, b"loading wei")
    assert follower.new_lines() == []
    append(log, b"ghts\n")
    assert follower.new_lines() == ["loading weights"]


def test_a_character_that_was_cut_in_two_is_whole_again(log: Path) -> None:
    follower = logs.LogFollower(log)
    data = "größer\n".encode()
    append(log, data[:3])
    follower.new_lines()
    append(log, data[3:])
    assert follower.new_lines() == ["größer"]


def test_bytes_that_are_no_text_do_not_stop_a_follower(log: Path) -> None:
    follower = logs.LogFollower(log)
    append(log, b"ok \xff\n")
    assert follower.new_lines() == ["ok \N{REPLACEMENT CHARACTER}"]


def test_each_step_of_a_progress_bar_is_a_line(log: Path) -> None:
    follower = logs.LogFollower(log)
    append(log, b"\r 10%|#\r 20%|##\r 30%")
    assert follower.new_lines() == [" 10%|#", " 20%|##"]


def test_windows_line_ends_make_no_empty_lines(log: Path) -> None:
    follower = logs.LogFollower(log)
    append(log, b"one\r")
    append(log, b"\ntwo\r\n\n")
    assert follower.new_lines() == ["one", "two"]


def test_a_follower_may_be_there_before_the_log(log: Path) -> None:
    follower = logs.LogFollower(log)
    assert follower.new_lines() == []
    append(log, b"first\n")
    assert follower.new_lines() == ["first"]
