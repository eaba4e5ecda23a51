"""From a URL to a Server, with everything but the server itself real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from pytest_vllm.spec import ServerSpec
from tests.unit.servers.fakes import FakeHttp, always

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.servers.server import Server


@pytest.fixture
def told() -> list[str]:
    """What is told while the server is looked at."""
    return []


@pytest.fixture
def connect(http: FakeHttp, told: list[str], tmp_path: Path) -> Callable[..., Server]:
    """Lease the fake server by its URL."""

    def connect(model: str = "", **spec: Any) -> Server:
        pool = ServerPool(LaunchPolicy("run", tmp_path), lambda model, line: told.append(line))
        return pool.lease(ServerSpec(model, launcher="external", url=http.url, **spec))

    return connect


def test_a_running_server_has_no_time_of_start_and_no_log(connect: Callable[..., Server]) -> None:
    server = connect()
    assert (server.startup_s, server.log_path, server.phases) == (None, None, ())


def test_the_model_that_it_serves_becomes_the_model_of_the_report(
    connect: Callable[..., Server],
) -> None:
    assert connect().spec.model == "m"


def test_the_users_name_for_the_model_stays(connect: Callable[..., Server]) -> None:
    server = connect("alias")
    assert (server.model, server.spec.model) == ("alias", "alias")
    assert "/v1/models does not list alias" in server.notes


@pytest.mark.parametrize(
    ("status", "body", "version"),
    [
        (200, {"version": "0.32.0"}, "0.32.0"),
        (404, {"version": "0.32.0"}, ""),
        (200, {"release": "1"}, ""),
        (200, ["0.32.0"], ""),
    ],
    ids=str,
)
def test_the_version_is_what_the_server_says_or_unknown(
    connect: Callable[..., Server], http: FakeHttp, status: int, body: object, version: str
) -> None:
    http.replies["/version"] = always(status, body)
    assert connect().version == version


@pytest.mark.parametrize(("kind", "who"), [("auto", "server"), ("base", "user")])
def test_the_users_word_on_the_kind_of_model_beats_the_servers(
    connect: Callable[..., Server], http: FakeHttp, kind: str, who: str
) -> None:
    http.replies["/tokenize"] = always(200, {"count": 1})
    assert connect(kind=kind).capabilities.chat.decided_by == who


def test_it_is_told_where_we_connect_and_that_it_is_ready(
    connect: Callable[..., Server], http: FakeHttp, told: list[str]
) -> None:
    connect()
    assert told == [f"connecting to {http.url}", "ready"]
