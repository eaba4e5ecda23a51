"""Tests ahead of their turn: what runs on threads, what never does, and what reports say."""

from __future__ import annotations

import json

import pytest

from tests.fake_server import FakeServer
from tests.plugin.conftest import INI, Run

THREE_MEET = """
import threading, pytest

meeting = threading.Barrier(3)

@pytest.mark.parametrize("n", range(3))
def test_it(vllm_api, n):
    meeting.wait(20)
"""

ON_MAIN = """
import threading, pytest

@pytest.mark.parametrize("n", range(3))
def test_it(vllm_api, n):
    assert threading.current_thread().name != "vllm-ahead"
"""

ASKS = """
import pytest
from pytest_vllm.client.exchange import Request

@pytest.fixture
def other(): ...

def test_first(vllm_api{more}):
    vllm_api.send(Request("GET", "/first"))
    assert {good}

def test_second(vllm_api):
    vllm_api.send(Request("GET", "/second"))
"""


def asked(server: FakeServer) -> set[str]:
    """The tests that sent something."""
    return {r.path for r in server.requests} & {"/first", "/second"}


def test_tests_that_take_only_an_api_run_at_the_same_time(run: Run, server: FakeServer) -> None:
    run(THREE_MEET, "--vllm-url", server.url).assert_outcomes(passed=3)


def test_what_stands_for_the_whole_session_holds_up_nobody(run: Run, server: FakeServer) -> None:
    around = "import pytest\n@pytest.fixture(autouse=True, scope='session')\ndef around(): ...\n"
    run(around + THREE_MEET, "--vllm-url", server.url).assert_outcomes(passed=3)


def test_an_installed_pytest_asyncio_holds_up_nobody(
    pytester: pytest.Pytester, server: FakeServer
) -> None:
    pytest.importorskip("pytest_asyncio")
    loop = "asyncio_default_fixture_loop_scope = function\n"
    pytester.makeini(INI.replace("-p no:asyncio", "") + loop)
    pytester.makepyfile(THREE_MEET)
    result = pytester.runpytest_subprocess("--vllm-url", server.url, "-p", "no:xdist")
    result.assert_outcomes(passed=3)


def test_no_more_run_at_once_than_the_concurrency(run: Run, server: FakeServer) -> None:
    source = """
import threading, pytest

room = threading.BoundedSemaphore(2)

@pytest.mark.parametrize("n", range(12))
def test_it(vllm_api, n):
    assert room.acquire(blocking=False)
    vllm_api.client.get("/health")
    room.release()
"""
    result = run(source, "--vllm-url", server.url, "--vllm-concurrency=2")
    result.assert_outcomes(passed=12)


def test_with_concurrency_1_there_are_no_threads(run: Run, server: FakeServer) -> None:
    options = ("--vllm-url", server.url, "--vllm-concurrency=1")
    run(ON_MAIN, *options).assert_outcomes(passed=3)


@pytest.mark.parametrize("option", ["-x", "--maxfail=1", "--setup-show"])
def test_nothing_is_sent_ahead_where_the_next_test_may_not_run(
    run: Run, server: FakeServer, option: str
) -> None:
    run(ASKS.format(more="", good=option == "--setup-show"), "--vllm-url", server.url, option)
    assert asked(server) == ({"/first", "/second"} if option == "--setup-show" else {"/first"})


def test_what_is_deselected_is_not_sent(run: Run, server: FakeServer) -> None:
    run(ASKS.format(more="", good=1), "--vllm-url", server.url, "-k", "first")
    assert asked(server) == {"/first"}


def test_what_only_collects_sends_nothing(run: Run, server: FakeServer) -> None:
    run(ASKS.format(more="", good=1), "--vllm-url", server.url, "--collect-only")
    assert server.requests == []


@pytest.mark.parametrize("mark", ["skip", "xfail(run=False)", "requires('embeddings')"])
def test_what_is_skipped_is_not_sent(run: Run, server: FakeServer, mark: str) -> None:
    source = ASKS.format(more="", good=1).replace(
        "def test_second", f"@pytest.mark.{mark}\ndef test_second"
    )
    run(source, "--vllm-url", server.url)
    assert asked(server) == {"/first"}


def test_a_worker_of_xdist_runs_its_tests_one_by_one(run: Run, server: FakeServer) -> None:
    run(ON_MAIN, "--vllm-url", server.url, workers=True).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    "more",
    [
        "def test_it(vllm_api, tmp_path):",
        "@pytest.mark.usefixtures('monkeypatch')\ndef test_it(vllm_api):",
        "@pytest.mark.skipif('0', reason='')\ndef test_it(vllm_api):",
        "@pytest.mark.alone\ndef test_it(vllm_api):",
        "@pytest.mark.parametrize('half', [2], indirect=True)\ndef test_it(vllm_api, half):",
        "def test_it(vllm_client):",
    ],
    ids=["fixture", "usefixtures", "skipif", "alone", "indirect", "client-only"],
)
def test_a_test_that_needs_more_runs_as_ever(run: Run, server: FakeServer, more: str) -> None:
    source = f"""
import threading, pytest

@pytest.fixture
def half(request):
    return request.param // 2

{more}
    assert threading.current_thread() is threading.main_thread()
"""
    run(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_a_module_with_a_fixture_of_its_own_for_all_tests_runs_as_ever(
    run: Run, server: FakeServer
) -> None:
    source = "import pytest\n@pytest.fixture(autouse=True)\ndef around(): ...\n" + ON_MAIN
    run(source, "--vllm-url", server.url).assert_outcomes(passed=3)


def test_nothing_is_on_its_way_while_a_test_that_is_alone_runs(
    anyhow: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    (pytester.path / "inside").mkdir()
    source = """
import pathlib, pytest

inside = pathlib.Path("inside")

def stay(client, n):
    (inside / n).touch()
    for _ in range(3):
        client.get("/health")
    (inside / n).unlink()

@pytest.mark.parametrize("n", range(4))
@pytest.mark.parametrize("m", range(3))
def test_it(vllm_api, n, m):
    stay(vllm_api.client, f"{n}{m}")

@pytest.mark.alone
@pytest.mark.parametrize("n", range(4))
def test_alone(vllm_api, n):
    assert not list(inside.iterdir())
    stay(vllm_api.client, "alone")
    assert not list(inside.iterdir())
"""
    anyhow(source, "--vllm-url", server.url).assert_outcomes(passed=16)


def test_tests_that_are_alone_come_last(run: Run, server: FakeServer) -> None:
    source = """
import pytest

@pytest.mark.alone(last=True)
def test_end(vllm_api): ...

@pytest.mark.alone
def test_alone(vllm_api): ...

def test_b(vllm_api): ...

def test_a(vllm_api): ...
"""
    result = run(source, "--vllm-url", server.url, "--collect-only", "-q")
    names = [line.partition("::")[2].partition("[")[0] for line in result.outlines if "::" in line]
    assert names == ["test_b", "test_a", "test_alone", "test_end"]


OUTCOMES = """
import pytest

def test_passes(vllm_api):
    vllm_api.note("noted")

def test_fails(vllm_api):
    left = vllm_api.model
    assert left == "another"

def test_skips(vllm_api):
    pytest.skip("not today")

def test_cannot(vllm_api):
    vllm_api.unsupported("says 404")

def test_expects(vllm_api):
    pytest.xfail("known")

@pytest.mark.optional
def test_optional(vllm_api):
    assert 0, "optional part"

@pytest.mark.xfail(raises=ZeroDivisionError)
def test_marked(vllm_api):
    1 / 0
"""


@pytest.mark.parametrize("concurrency", [1, 16])
def test_outcomes_are_the_same_ahead_of_their_turn(
    run: Run, server: FakeServer, concurrency: int
) -> None:
    result = run(OUTCOMES, "--vllm-url", server.url, "-v", f"--vllm-concurrency={concurrency}")
    result.assert_outcomes(passed=1, failed=1, skipped=2, xfailed=3)
    result.stdout.fnmatch_lines(
        ["*::test_passes* PASSED noted*", "*::test_fails* FAILED*", "*::test_marked* XFAIL*"]
    )
    result.stdout.fnmatch_lines([">       assert left == *another*"])


def test_a_failure_ahead_of_its_turn_shows_the_test_and_nothing_of_ours(
    run: Run, server: FakeServer
) -> None:
    text = run(OUTCOMES, "--vllm-url", server.url).stdout.str()
    assert "ahead.py" not in text
    assert "outcome.py" not in text


def test_each_test_has_its_own_time(
    run: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    source = """
import threading, pytest

@pytest.mark.parametrize("seconds", [0.3, 0.0, 0.3])
def test_it(vllm_api, seconds):
    threading.Event().wait(seconds)
"""
    run(source, "--vllm-url", server.url, "--vllm-results=r.json")
    tests = json.loads((pytester.path / "r.json").read_text())["tests"]
    first, second, third = (test["duration_s"] for test in tests)
    assert min(first, third) >= 0.3
    assert second < 0.25


def test_a_time_out_ends_a_test_that_hangs_on_its_thread(run: Run, server: FakeServer) -> None:
    source = """
import threading, pytest

def test_hangs(vllm_api):
    threading.Event().wait(60)

def test_later(vllm_api): ...
"""
    options = ("--timeout=1", "--timeout-method=signal")
    result = run(source, "--vllm-url", server.url, *options)
    result.assert_outcomes(failed=1, passed=1)


def test_ctrl_c_leaves_although_a_test_hangs(pytester: pytest.Pytester, server: FakeServer) -> None:
    source = """
import os, signal, threading, pytest

# A shell without job control starts what is in its background with SIGINT ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

def test_hangs(vllm_api):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait(60)
"""
    pytester.makeini(INI)
    pytester.makepyfile(source)
    options = ("-p", "no:xdist", "--vllm-url", server.url)
    result = pytester.runpytest_subprocess(*options, timeout=40)
    assert result.ret == pytest.ExitCode.INTERRUPTED


KILLED_TOGETHER = """
import os, signal, threading, pytest

meeting = threading.Barrier(3)

def test_innocent(vllm_api): ...

@pytest.mark.parametrize("n", range(3))
def test_together(vllm_api, n):
    meeting.wait(20)
    if n == 1:
        os.kill(int(vllm_api.server.facts["pid"]), signal.SIGKILL)
    while True:
        vllm_api.client.get("/health")

@pytest.mark.alone
def test_later(vllm_api): ...
"""


def test_all_tests_on_their_way_are_suspects_of_a_death(run: Run, stand_in: list[str]) -> None:
    result = run(KILLED_TOGETHER, "--vllm-model=acme/m", *stand_in)
    result.assert_outcomes(passed=1, failed=1, errors=3)
    name = "test_inner.py::test_together[[]acme/m-{}]"
    names = f"{name.format(0)}, {name.format(1)} or {name.format(2)}"
    result.stdout.fnmatch_lines(
        [f"The server of acme/m died during {names} (on their way together; *=1 tells which)*"]
    )
    assert result.stdout.str().count("The log ends with:") == 1
