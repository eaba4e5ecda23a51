"""At the very end: the server is as healthy and as idle as it was before all the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.metrics import Metrics, look_until
from pytest_vllm.servers.logs import slice_from
from pytest_vllm.suite.server_log import errors_in

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [pytest.mark.alone(last=True), pytest.mark.endpoint("after all tests")]


@pytest.mark.optional
def test_the_server_is_healthy_after_all_tests(api: Api) -> None:
    answer = api.send(Request("GET", "/health"))
    if answer.status != 200:
        raise CheckFailed(
            "/health must be answered with 200 after all tests", seen=answer.status
        ).reproduced_by(answer.curl)


@pytest.mark.optional
@pytest.mark.requires("vllm", "metrics")
def test_the_server_is_idle_after_all_tests(api: Api) -> None:
    seen = look_until(api.client, _is_idle, limit_s=15)
    if _is_idle(seen):
        return
    name = "vllm:request_success_total"
    later = look_until(api.client, lambda now: now.since(seen, name) > 0, limit_s=5)
    if later.since(seen, name) > 0:
        api.unsupported(f"somebody else uses the server: {name} moves while we ask nothing")
    raise CheckFailed(
        "No request may be left running or waiting after all tests", expected=0, seen=seen.in_flight
    ).reproduced_by(seen.answer.curl)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_the_log_of_the_server_has_no_errors(api: Api) -> None:
    path = api.server.log_path
    if path is None:
        api.unsupported("the log of a server at a URL is not here")
    found = errors_in(slice_from(path, 0, 50_000_000))
    if found:
        raise CheckFailed(
            f"The server's log must be without errors ({len(found)} found)", seen=Text(found[0])
        )


def _is_idle(seen: Metrics) -> bool:
    return seen.in_flight == 0
