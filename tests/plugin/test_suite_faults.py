"""Every check of the suite can fail: each fault turns red what it must, and nothing else.

In front of a recorded healthy server (tests/recordings), in this process: the suite's tests are
called as functions. What a recording cannot tell (time, metrics, cancellation) and all of it
in front of a real server: tests/e2e/test_faults.py. To record again: tests/recordings/record.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from pytest_vllm.servers.server import Server
from tests.proxy import expected
from tests.proxy.catalogue import FAULTS
from tests.proxy.expected import Expected, judged
from tests.proxy.fault import Fault
from tests.proxy.harness import Test, collect, connect, run
from tests.proxy.proxy import Proxy
from tests.proxy.recording import NOT_RECORDED, Replay
from tests.proxy.server import serving

MODELS = [
    p.name.removesuffix(".json.gz").replace("--", "/") for p in sorted(expected.FOLDER.glob("*.gz"))
]
CASES = [(model, name) for model in MODELS for name in expected.load(model) if name in FAULTS]


@pytest.fixture(scope="module")
def suite() -> dict[str, Test]:
    """The suite's tests by name."""
    return {test.name: test for test in collect()}


@contextmanager
def served(model: str, fault: Fault | None) -> Iterator[tuple[Server, httpx.Client]]:
    """A recorded server behind a fault."""
    replay = Replay(expected.FOLDER / f"{expected.slug(model)}.json.gz")
    with serving(Proxy(replay, fault)) as url:
        server, client = connect(url, model)
        with closing(client):
            yield server, client


def reds(model: str, fault: Fault | None, tests: list[Test]) -> dict[str, str]:
    """The tests that go red, and the rules that they name."""
    try:
        with served(model, fault) as (server, client):
            verdicts = run(tests, server, client, threads=4)
    except AssertionError as refusal:
        return {"start": expected.sentence(str(refusal))}
    assert not [v for v in verdicts if NOT_RECORDED in v.message], "record again"
    return judged(verdicts, {})


@pytest.mark.parametrize("model", MODELS)
def test_a_healthy_server_is_green(model: str, suite: dict[str, Test]) -> None:
    named = {name for entry in expected.load(model).values() for name in (*entry.red, *entry.green)}
    assert reds(model, None, [suite[name] for name in sorted(named) if name in suite]) == {}


@pytest.mark.parametrize(("model", "name"), CASES, ids=[f"{m}:{n}" for m, n in CASES])
def test_a_fault_turns_its_tests_red(model: str, name: str, suite: dict[str, Test]) -> None:
    entry: Expected = expected.load(model)[name]
    assert reds(model, FAULTS[name], entry.of(suite)) == entry.red


def test_there_are_faults_enough() -> None:
    assert len(FAULTS) >= 120
    assert len({name for _, name in CASES}) >= 120


def test_a_fault_names_a_report_that_is_there_or_none() -> None:
    text = (Path(expected.__file__).parent / "reports.toml").read_text()
    ids = re.findall(r'^id = "(.+)"$', text, re.MULTILINE)
    assert len(ids) == len(set(ids)) >= 150
    assert {fault.report for fault in FAULTS.values()} <= {*ids, ""}
