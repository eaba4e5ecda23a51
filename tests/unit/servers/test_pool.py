from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.errors import (
    LaunchError,
    LauncherUnavailable,
    PreflightRefused,
    ServerDied,
    StartFailed,
)
from pytest_vllm.preflight import look
from pytest_vllm.servers.pool import _download_dir
from pytest_vllm.servers.server import State
from pytest_vllm.spec import ServerSpec

if TYPE_CHECKING:
    from pytest_vllm.servers.pool import ServerPool
    from tests.unit.servers.fakes import FakeLauncher, WatchedCondition

A, B = ServerSpec("a"), ServerSpec("b")

#: Seconds after which a test that hangs gives up; none waits as long.
PATIENCE = 10


def in_thread(function: Callable[..., Any], *arguments: object) -> Future[Any]:
    """Call a function in a thread of its own."""
    threads = ThreadPoolExecutor(1)
    future = threads.submit(function, *arguments)
    threads.shutdown(wait=False)
    return future


class Gate:
    """Holds a start until the test opens it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()

    def __call__(self, model: str) -> None:
        self.reached.set()
        assert self._open.wait(PATIENCE)

    def arrive(self) -> None:
        """Wait until somebody stands before it."""
        assert self.reached.wait(PATIENCE)

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Gate:
    return Gate()


def refuse(model: str) -> None:
    raise StartFailed(f"{model} did not start: out of memory\n  evidence\n  remedy")


def die(launcher: FakeLauncher, model: str) -> None:
    launcher.instances[model].end = State(False, -11)


#: What the diagnosis computed for a GPU that others use.
BUSY = {
    "cause": "gpu_memory_utilization_too_high",
    "title": "busy",
    "numbers": {"max_gpu_util": 0.85, "requested": 0.92, "free_gib": 164.8, "total_gib": 192.0},
}


def busy_once(launcher: FakeLauncher, times: int = 1) -> None:
    """Let the first starts fail for want of memory."""
    left = [None] * times

    def fail(model: str) -> None:
        if left:
            left.pop()
            error = StartFailed(f"{model} did not start: busy\n  cause\n\nThe log ends with:")
            error.diagnosis = BUSY
            raise error

    launcher.while_starting = fail


@pytest.fixture
def adjusting(pool: ServerPool) -> ServerPool:
    """A pool that tries again."""
    pool._policy = replace(pool._policy, auto_adjust=True)
    return pool


@pytest.fixture
def foretold(monkeypatch: pytest.MonkeyPatch) -> str:
    """A warning of the preflight about every server."""
    warning = "warning: the disk is small"
    monkeypatch.setattr(look, "look", lambda launcher, spec, policy: (warning,))
    return warning


# --- before a start, and after a refusal -------------------------------------------------------


def test_a_warning_is_told_before_the_start_and_not_at_each_return(
    pool: ServerPool, progress: list[tuple[str, str]], foretold: str
) -> None:
    for spec in (A, B, A):
        pool.lease(spec)
        pool.release(spec)
    assert [line for line in progress if line[1] == foretold] == [("a", foretold), ("b", foretold)]


def test_warnings_are_notes_of_the_server(pool: ServerPool, foretold: str) -> None:
    assert pool.lease(A, "", ("warning: the run is short",)).notes == (
        "warning: the run is short",
        foretold,
    )


def test_a_refusal_is_remembered_and_starts_nothing(
    pool: ServerPool, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_all(*_: object) -> None:
        raise PreflightRefused("a was not started, since it cannot work\n  do  something")

    monkeypatch.setattr(look, "look", refuse_all)
    with pytest.raises(PreflightRefused, match="do  something"):
        pool.lease(A)
    with pytest.raises(PreflightRefused, match=r"work \(see the first error of this server\)$"):
        pool.lease(A)
    assert launcher.events == []


def test_the_first_try_is_ended_before_the_second_begins(
    adjusting: ServerPool, launcher: FakeLauncher
) -> None:
    busy_once(launcher)
    server = adjusting.lease(A)
    assert launcher.events == ["start a", "stop a", "start a"]
    assert server.spec == ServerSpec("a", gpu_util=0.85)
    assert adjusting.lease(A) is server


def test_there_is_no_third_try(adjusting: ServerPool, launcher: FakeLauncher) -> None:
    busy_once(launcher, times=3)
    with pytest.raises(StartFailed, match="This was the second try"):
        adjusting.lease(A)
    assert launcher.events == ["start a", "stop a"] * 2
    assert adjusting.diagnoses()[A] == BUSY


def test_without_the_option_there_is_one_try(pool: ServerPool, launcher: FakeLauncher) -> None:
    busy_once(launcher)
    with pytest.raises(StartFailed):
        pool.lease(A)
    assert launcher.events == ["start a", "stop a"]


# --- starts ------------------------------------------------------------------------------------


def test_leases_of_one_spec_share_one_start(pool: ServerPool, launcher: FakeLauncher) -> None:
    assert pool.lease(A) is pool.lease(ServerSpec("a"))
    assert launcher.events == ["start a"]


def test_leases_that_come_during_a_start_share_it(
    pool: ServerPool, launcher: FakeLauncher, turn: WatchedCondition, gate: Gate
) -> None:
    launcher.while_starting = gate
    first = in_thread(pool.lease, A)
    gate.arrive()
    second = in_thread(pool.lease, A)
    assert turn.somebody_waits.wait(PATIENCE)
    gate.open()
    assert first.result(PATIENCE) is second.result(PATIENCE)
    assert launcher.events == ["start a"]


def test_a_server_stays_up_after_its_last_lease(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.lease(A)
    pool.release(A)
    pool.lease(A)
    assert launcher.events == ["start a"]


def test_another_server_is_started_after_the_old_one_was_stopped(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    pool.lease(A)
    pool.release(A)
    pool.lease(B)
    assert launcher.events == ["start a", "stop a", "start b"]


def test_another_server_waits_for_the_last_lease_of_the_old_one(
    pool: ServerPool, launcher: FakeLauncher, turn: WatchedCondition
) -> None:
    pool.lease(A, "gw0")
    pool.lease(A, "gw1")
    other = in_thread(pool.lease, B)
    assert turn.somebody_waits.wait(PATIENCE)
    turn.somebody_waits.clear()
    pool.release(A, "gw0")
    assert turn.somebody_waits.wait(PATIENCE)
    assert launcher.events == ["start a"]
    pool.release(A, "gw1")
    assert other.result(PATIENCE).model == "b"


def test_a_lease_of_another_server_that_is_given_back_changes_nothing(
    pool: ServerPool, launcher: FakeLauncher, turn: WatchedCondition
) -> None:
    pool.lease(A)
    pool.release(B)
    waiting = in_thread(pool.lease, B)
    assert turn.somebody_waits.wait(PATIENCE)
    pool.close()
    assert isinstance(waiting.exception(PATIENCE), StartFailed)
    assert launcher.events == ["start a", "stop a"]


def test_every_server_that_was_ready_is_remembered_in_the_order_of_the_starts(
    pool: ServerPool,
) -> None:
    for spec in (B, A):
        pool.lease(spec)
        pool.release(spec)
    assert list(pool.servers_by_spec()) == [B, A]


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("facebook/opt-125m", Path("/hub/models--facebook--opt-125m")),
        ("known-answer/base", None),
        ("/data/mine", None),
    ],
)
def test_a_download_is_watched_where_the_hub_puts_it(model: str, folder: Path | None) -> None:
    assert _download_dir(ServerSpec(model), Path("/hub")) == folder


def test_a_running_server_downloads_nothing_that_we_could_watch() -> None:
    assert _download_dir(A, None) is None


# --- failed starts -----------------------------------------------------------------------------


def test_a_failed_start_is_told_in_full_the_first_time(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    launcher.while_starting = refuse
    with pytest.raises(StartFailed, match="out of memory\n  evidence\n  remedy"):
        pool.lease(A)


def test_a_failed_start_is_not_tried_again_and_told_in_one_line(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    launcher.while_starting = refuse
    with pytest.raises(StartFailed):
        pool.lease(A)
    with pytest.raises(StartFailed) as again:
        pool.lease(A)
    assert str(again.value) == (
        "a did not start: out of memory (see the first error of this server)"
    )
    assert launcher.events == ["start a", "stop a"]


def test_a_later_lease_gets_an_error_of_the_same_type(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    def nothing_there(model: str) -> None:
        raise LauncherUnavailable("no engine")

    launcher.before_launch = nothing_there
    for _ in range(2):
        with pytest.raises(LauncherUnavailable):
            pool.lease(A)


def test_an_unexpected_error_of_a_start_is_remembered_as_well(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    def broken(model: str) -> None:
        raise OSError("disk full")

    launcher.while_starting = broken
    with pytest.raises(OSError, match="disk full"):
        pool.lease(A)
    with pytest.raises(LaunchError, match=r"a: OSError\('disk full'\) \(see the first error"):
        pool.lease(A)
    assert launcher.events == ["start a", "stop a"]


def test_a_start_that_the_user_interrupts_is_stopped_and_not_held_against_the_server(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    def interrupt(model: str) -> None:
        raise KeyboardInterrupt

    launcher.while_starting = interrupt
    with pytest.raises(KeyboardInterrupt):
        pool.lease(A)
    assert (launcher.events, pool.failures()) == (["start a", "stop a"], {})


def test_a_lease_that_waits_for_a_start_hears_of_its_failure(
    pool: ServerPool, launcher: FakeLauncher, turn: WatchedCondition, gate: Gate
) -> None:
    def fail_at_the_gate(model: str) -> None:
        gate(model)
        refuse(model)

    launcher.while_starting = fail_at_the_gate
    first = in_thread(pool.lease, A)
    gate.arrive()
    second = in_thread(pool.lease, A)
    assert turn.somebody_waits.wait(PATIENCE)
    gate.open()
    errors = [str(future.exception(PATIENCE)).count("\n") for future in (first, second)]
    assert errors == [2, 0]


def test_after_a_failed_start_another_server_gets_its_turn(
    pool: ServerPool, launcher: FakeLauncher, turn: WatchedCondition, gate: Gate
) -> None:
    def fail_a_at_the_gate(model: str) -> None:
        if model == "a":
            gate(model)
            refuse(model)

    launcher.while_starting = fail_a_at_the_gate
    in_thread(pool.lease, A)
    gate.arrive()
    other = in_thread(pool.lease, B)
    assert turn.somebody_waits.wait(PATIENCE)
    gate.open()
    assert other.result(PATIENCE).model == "b"


def test_a_known_failure_does_not_wait_for_the_start_of_another_server(
    pool: ServerPool, launcher: FakeLauncher, gate: Gate
) -> None:
    launcher.while_starting = refuse
    with pytest.raises(StartFailed):
        pool.lease(A)
    launcher.while_starting = gate
    in_thread(pool.lease, B)
    gate.arrive()
    error = in_thread(pool.lease, A).exception(PATIENCE)
    gate.open()
    assert isinstance(error, StartFailed)


def test_progress_begins_with_the_place_where_the_server_is_to_run(
    pool: ServerPool, progress: list[tuple[str, str]]
) -> None:
    pool.lease(ServerSpec("a", image="vllm:v1"))
    assert progress == [("a", "starting on rocm in vllm:v1")]


def test_progress_names_the_model_that_did_not_start(
    pool: ServerPool, launcher: FakeLauncher, progress: list[tuple[str, str]]
) -> None:
    launcher.while_starting = refuse
    with pytest.raises(StartFailed):
        pool.lease(A)
    assert progress[-1] == ("a", "did not start")


def test_failures_are_kept_with_the_whole_report(pool: ServerPool, launcher: FakeLauncher) -> None:
    launcher.while_starting = refuse
    with pytest.raises(StartFailed):
        pool.lease(A)
    assert pool.failures() == {A: "a did not start: out of memory\n  evidence\n  remedy"}


# --- deaths ------------------------------------------------------------------------------------


def test_a_server_that_lives_gives_no_report(pool: ServerPool) -> None:
    pool.lease(A)
    assert pool.check(A, "test_one") is None


def test_a_server_that_was_never_started_gives_no_report(pool: ServerPool) -> None:
    assert pool.check(A, "test_one") is None


def test_the_first_test_that_finds_the_server_dead_is_named(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    pool.lease(A)
    die(launcher, "a")
    report = pool.check(A, "test_one")
    assert report is not None
    assert report.startswith("The server of a died during test_one: killed by signal 11")


def test_the_name_of_the_culprit_stays(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.lease(A)
    die(launcher, "a")
    pool.check(A, "test_one")
    assert pool.check(A, "test_two") == (
        "The server of a died during test_one: killed by signal 11 "
        "(see the first error of this server)"
    )


def test_a_dead_server_is_not_started_again(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.lease(A)
    die(launcher, "a")
    pool.check(A, "test_one")
    with pytest.raises(ServerDied, match=r"died during test_one: .* \(see the first error"):
        pool.lease(A)
    assert launcher.events == ["start a"]


def test_a_death_does_not_keep_the_next_server_from_its_start(
    pool: ServerPool, launcher: FakeLauncher
) -> None:
    pool.lease(A)
    die(launcher, "a")
    pool.check(A, "test_one")
    pool.release(A)
    assert pool.lease(B).model == "b"


# --- the end -----------------------------------------------------------------------------------


def test_the_end_stops_the_server(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.lease(A)
    pool.close()
    assert launcher.events == ["start a", "stop a"]


def test_a_second_end_does_nothing(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.lease(A)
    pool.close()
    pool.close()
    assert launcher.instances["a"].stops == 1


def test_after_the_end_nothing_is_started(pool: ServerPool, launcher: FakeLauncher) -> None:
    pool.close()
    with pytest.raises(StartFailed, match="The run is ending"):
        pool.lease(A)
    assert launcher.events == []


def test_a_lease_that_waits_hears_of_the_end(pool: ServerPool, turn: WatchedCondition) -> None:
    pool.lease(A)
    waiting = in_thread(pool.lease, B)
    assert turn.somebody_waits.wait(PATIENCE)
    pool.close()
    assert isinstance(waiting.exception(PATIENCE), StartFailed)


def test_the_end_stops_a_start_that_is_under_way(
    pool: ServerPool, launcher: FakeLauncher, gate: Gate
) -> None:
    launcher.while_starting = gate
    starting = in_thread(pool.lease, A)
    gate.arrive()
    pool.close()
    gate.open()
    assert isinstance(starting.exception(PATIENCE), StartFailed)
    assert launcher.events == ["start a", "stop a"]


def test_a_server_that_is_only_created_after_the_end_is_removed_and_not_started(
    pool: ServerPool, launcher: FakeLauncher, gate: Gate
) -> None:
    launcher.before_launch = gate
    pulling = in_thread(pool.lease, A)
    gate.arrive()
    pool.close()
    gate.open()
    assert isinstance(pulling.exception(PATIENCE), StartFailed)
    assert launcher.events == ["stop a"]


def test_an_end_that_fails_does_not_save_the_others(
    pool: ServerPool, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.lease(A)
    old = launcher.instances["a"]
    monkeypatch.setattr(old, "stop", lambda: 1 / 0)
    pool.release(A)
    with pytest.raises(ZeroDivisionError):
        pool.lease(B)
    pool.lease(B)
    with pytest.raises(ZeroDivisionError):
        pool.close()
    assert launcher.events == ["start a", "start b", "stop b"]


def test_an_end_that_fails_is_not_held_against_the_next_server(
    pool: ServerPool, launcher: FakeLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.lease(A)
    pool.release(A)
    monkeypatch.setattr(launcher.instances["a"], "stop", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pool.lease(B)
    assert pool.failures() == {}


def test_a_holder_that_is_gone_does_not_keep_a_server(pool: ServerPool) -> None:
    pool.lease(A, "gw0")
    pool.forget("gw0")
    assert pool.lease(B, "gw1").spec.model == B.model
