from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.servers import liveness
from pytest_vllm.servers.liveness import accepts, death_of, health
from pytest_vllm.servers.server import State
from tests.unit.servers.fakes import FakeHttp, FakeInstance, FakeTime, always

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD_PORT = "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(liveness, "time", fake)
    return fake


@pytest.fixture
def instance(http: FakeHttp) -> FakeInstance:
    return FakeInstance(http.url)


def test_an_open_port_accepts(http: FakeHttp) -> None:
    assert accepts(http.url)


@pytest.mark.parametrize("url", [DEAD_PORT, "https://127.0.0.1:1/path"])
def test_a_closed_port_does_not(url: str) -> None:
    assert not accepts(url)


@pytest.mark.parametrize(("url", "port"), [("http://h", 80), ("https://h/x", 443)])
def test_an_address_without_a_port_has_that_of_its_scheme(
    url: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError

    monkeypatch.setattr("socket.create_connection", connect)
    accepts(url)
    assert asked == [("h", port)]


def test_health_is_asked_below_the_path_of_the_address(http: FakeHttp) -> None:
    http.replies["/team/a/health"] = always(204)
    assert health(f"{http.url}/team/a") == 204


@pytest.mark.parametrize("url", [DEAD_PORT, "https://127.0.0.1:1"])
def test_nobody_there_has_no_health(url: str) -> None:
    assert health(url) == 0


def test_a_connection_that_is_reset_has_no_health(http: FakeHttp) -> None:
    http.replies["/health"] = lambda: None
    assert health(http.url) == 0


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked accepts the question and takes his time."""

    def silence(connection: HTTPConnection) -> None:
        raise TimeoutError

    monkeypatch.setattr(HTTPConnection, "getresponse", silence)


@pytest.mark.usefixtures("busy")
def test_no_answer_in_time_is_not_no_answer(http: FakeHttp) -> None:
    with pytest.raises(TimeoutError):
        health(http.url)


@pytest.mark.usefixtures("busy")
def test_a_server_that_is_too_busy_to_answer_lives(instance: FakeInstance) -> None:
    assert death_of(instance) is None


@pytest.mark.parametrize("status", [200, 401, 404, 500])
def test_a_process_that_runs_and_answers_lives(
    http: FakeHttp, instance: FakeInstance, status: int
) -> None:
    http.replies["/health"] = always(status)
    assert death_of(instance) is None


def test_a_process_that_ended_is_dead_whoever_answers_at_its_address(
    instance: FakeInstance,
) -> None:
    instance.end = State(False, 1)
    assert death_of(instance) == "exit code 1"


def ends(instance: FakeInstance) -> Callable[[float], None]:
    """Replaces a sleep, in which the instance ends."""
    return lambda seconds: setattr(instance, "end", State(False, -9))


def test_who_does_not_answer_is_given_time_to_end(
    time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = FakeInstance(DEAD_PORT)
    monkeypatch.setattr(time, "sleep", ends(instance))
    assert death_of(instance) == "killed by signal 9"


def test_a_server_whose_engine_died_is_given_time_to_end(
    http: FakeHttp, instance: FakeInstance, time: FakeTime, monkeypatch: pytest.MonkeyPatch
) -> None:
    http.replies["/health"] = always(503)
    monkeypatch.setattr(time, "sleep", ends(instance))
    assert death_of(instance) == "killed by signal 9"


def test_who_never_answers_is_dead_though_its_process_runs(time: FakeTime) -> None:
    assert death_of(FakeInstance(DEAD_PORT)) == "it answers no more"
    assert time.now == pytest.approx(1000 + liveness._SETTLE_S, abs=0.05)


def test_a_dead_engine_is_the_end_though_its_server_runs(
    http: FakeHttp, instance: FakeInstance
) -> None:
    http.replies["/health"] = always(503)
    assert death_of(instance) == "its engine is dead: /health says 503"
