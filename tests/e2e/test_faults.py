"""Faults in front of a real vLLM: each is caught, and by the rule that is meant for it.

A sample by default, about three minutes on two cores; all with PYTEST_VLLM_E2E_FAULTS=all. Which
tests see a fault, and what they say then, was measured: tests/recordings/record.py. This is also
where the faults are tried that a recording cannot show: metrics, cancellation, time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from pytest_vllm.servers.server import Server
from pytest_vllm.spec import ServerSpec
from tests.proxy import expected
from tests.proxy.catalogue import FAULTS
from tests.proxy.expected import Expected, sentence
from tests.proxy.harness import Test, collect
from tests.proxy.measure import attempt

MODEL = "acme/tiny-chat"
EXPECTED = expected.load(MODEL)
STEP = 1 if os.environ.get("PYTEST_VLLM_E2E_FAULTS") == "all" else 4
#: Fault -> tests that must run alone, which no recording can answer, and words of their rule.
ALONE = {
    "metrics_are_frozen": ("test_metrics.py::*counters_move*", "must"),
    "prompt_tokens_count_double": ("test_metrics.py::*counters_move*", "must"),
    "generation_tokens_stay_0": ("test_metrics.py::*counters_move*", "must"),
    "success_counts_double": ("test_metrics.py::*counters_move*", "must"),
    "aborts_are_not_noticed": ("test_cancellation.py::*", "must"),
    "stream_comes_at_once": ("test_delivery.py::*", "must"),
}


#: Faults of one part of a stream, which a busy vLLM may send in so few parts that nothing is lost.
CHANCE = {"messages_a_delta_is_lost"}

# Clients that hang up, and a proxy that does, leave their sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def server(
    engine_python: str, chat_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A small chat model with a tool parser on a real vLLM."""
    pool = ServerPool(LaunchPolicy("e2e-faults", tmp_path_factory.mktemp("logs")), lambda *_: None)
    parser = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    served = ("--served-model-name", MODEL)
    try:
        yield pool.lease(
            ServerSpec(
                str(chat_model),
                launcher="process",
                python=engine_python,
                platform="auto",
                max_model_len=512,
                args=(*parser, *served),
            )
        )
    finally:
        pool.close()


@pytest.fixture(scope="module")
def suite() -> dict[str, Test]:
    """The suite's tests by name."""
    return {test.name: test for test in collect()}


@pytest.mark.parametrize("name", sorted(EXPECTED.keys() - CHANCE)[::STEP])
def test_a_fault_is_caught_by_its_rule(name: str, server: Server, suite: dict[str, Test]) -> None:
    entry: Expected = EXPECTED[name]
    verdicts, mistakes = attempt(server.base_url, server.model, FAULTS[name], entry.of(suite), 0)
    red = {v.test: sentence(v.message) for v in verdicts if v.outcome == "failed"}
    assert mistakes == []
    assert red, "nobody saw it"
    # Which of the rules that a fault breaks is seen first is up to the engine; the quick tests,
    # where every answer is recorded, insist on each.
    assert {_rule(text) for text in red.values()} & {_rule(text) for text in entry.red.values()}


def _rule(text: str) -> str:
    return text.partition(";")[0]


@pytest.mark.parametrize("name", ALONE)
def test_what_no_recording_shows_is_caught(name: str, server: Server) -> None:
    pattern, words = ALONE[name]
    tests = collect(pattern)
    healthy, _ = attempt(server.base_url, server.model, None, tests, 0)
    assert [v for v in healthy if v.outcome == "failed"] == []
    verdicts, _ = attempt(server.base_url, server.model, FAULTS[name], tests, 1)
    assert [v for v in verdicts if v.outcome == "failed" and words in v.message]
