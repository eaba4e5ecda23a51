"""A client that goes away: its request ends, its slot is free, the next one is answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import send
from pytest_vllm.client.checks import has_text
from pytest_vllm.client.failure import CheckFailed, NoAnswer
from pytest_vllm.client.metrics import RUNNING, Metrics, look, look_until
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.long import begin, long_completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Request

pytestmark = [
    pytest.mark.alone,
    pytest.mark.endpoint("POST /v1/completions (cancelled)"),
    pytest.mark.source("vLLM tests/entrypoints: test_basic, request cancellation"),
]

#: How many go away at once; more, if the answers were complete before anybody could leave.
CROWDS = (4, 12, 32)

#: Share of the tokens that may be generated although their readers went away.
STILL = 0.8

GENERATED = "vllm:generation_tokens_total"


@pytest.mark.optional
@pytest.mark.requires("vllm", "metrics")
def test_a_client_that_drops_a_stream_ends_its_generation(api: Api) -> None:
    _must_end(api, _drop)


@pytest.mark.optional
@pytest.mark.requires("vllm", "metrics")
def test_a_client_that_gives_up_waiting_ends_its_generation(api: Api) -> None:
    _must_end(api, _give_up)


@pytest.mark.core
def test_after_a_dropped_stream_the_next_request_is_answered(api: Api) -> None:
    _drop(api, long_completion(api).but(ignore_eos=...))
    api.ask(completion(api.model)).check(has_text)


@pytest.mark.core
def test_after_fifty_that_went_away_one_is_answered_within_10_s(api: Api) -> None:
    request = long_completion(api, 400).but(ignore_eos=...)
    for last in (False, True):
        api.together(*[lambda: _drop(api, request)] * 50)
        try:
            send(api.client, completion(api.model), deadline_s=10).check(has_text)
            return
        except NoAnswer:
            if last:
                raise


def _must_end(api: Api, leave: Callable[[Api, Request], None]) -> None:
    """Nothing may go on for readers that left: neither the slot nor the generation."""
    for crowd in CROWDS:
        request = long_completion(api)
        before = look_until(api.client, _is_idle)
        api.together(*[partial(leave, api, request)] * crowd)
        after = look_until(api.client, _is_idle, limit_s=30)
        if not _is_idle(after):
            _unless_somebody_else(api)
            raise CheckFailed(
                f"{RUNNING} must be 0 after the clients went away", seen=after.in_flight
            ).reproduced_by(after.answer.curl)
        wanted = crowd * request.get("max_tokens")
        generated = after.since(before, GENERATED)
        if generated < STILL * wanted:
            return
    _unless_somebody_else(api)
    raise CheckFailed(
        "Generation must stop when its client goes away",
        expected=f"well below {wanted} tokens",
        seen=f"{generated:g}",
    )


def _drop(api: Api, request: Request) -> None:
    """Read the first part of a stream, and hang up."""
    with begin(api.client, request.but(stream=True)) as parts:
        next(parts, b"")


def _give_up(api: Api, request: Request) -> None:
    """Wait for an unstreamed answer for a moment, and hang up."""
    import httpx

    try:
        api.client.request(request.method, request.path, json=request.body, timeout=0.5)
    except httpx.TimeoutException:
        return


def _is_idle(seen: Metrics) -> bool:
    return seen.in_flight == 0


def _unless_somebody_else(api: Api) -> None:
    before = look(api.client)
    name = "vllm:request_success_total"
    seen = look_until(api.client, lambda seen: seen.since(before, name) > 0, limit_s=3)
    if (moved := seen.since(before, name)) > 0:
        api.unsupported(f"somebody else uses the server: {name} moved by {moved:g} while idle")
