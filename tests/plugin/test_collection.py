"""Tests × models: names, order, the user's own parametrization, time-outs."""

from __future__ import annotations

import pytest

from tests.fake_server import FakeServer
from tests.plugin.conftest import Run

PASS = "def test_it(vllm_spec): ...\n"


def test_the_model_is_in_the_name_even_if_it_is_the_only_one(run: Run) -> None:
    result = run(PASS, "--vllm-model=a/b", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["test_inner.py::test_it[[]a/b]"])


def test_each_test_runs_once_per_model(run: Run) -> None:
    run(PASS, "--vllm-model=a/b", "--vllm-model=c/d").assert_outcomes(passed=2)


def test_a_model_named_twice_counts_once(run: Run) -> None:
    run(PASS, "--vllm-model=a/b", "--vllm-model=a/b").assert_outcomes(passed=1)


def test_each_servers_tests_run_together_after_those_without_one(run: Run) -> None:
    source = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_x(vllm_spec, n): ...

def test_plain(): ...

def test_y(vllm_spec): ...
"""
    result = run(source, "--vllm-model=a", "--vllm-model=b", "--collect-only", "-q")
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert names[0] == "test_plain"
    assert ["a" in name.partition("[")[2] for name in names[1:]] == [True] * 3 + [False] * 3


def test_a_test_may_choose_its_specs_itself(run: Run) -> None:
    source = """
import pytest
from pytest_vllm.spec import ServerSpec

@pytest.mark.parametrize("vllm_spec", [ServerSpec("mine")], indirect=True)
def test_it(vllm_spec):
    assert vllm_spec.model == "mine"
"""
    run(source, "--vllm-model=a", "--vllm-model=b").assert_outcomes(passed=1)


def test_a_time_out_does_not_count_the_start_of_the_server(
    run: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
def pytest_collection_finish(session):
    for item in session.items:
        print(item.name, item.get_closest_marker("timeout").kwargs)
"""
    )
    run(PASS, "--timeout=60", "--collect-only", "-s").stdout.fnmatch_lines(
        ["test_it*{'func_only': True}"]
    )


def test_a_time_out_still_ends_a_test_that_hangs(run: Run, server: FakeServer) -> None:
    source = "def test_it(vllm_client):\n    while True:\n        vllm_client.get('/health')\n"
    result = run(source, "--vllm-url", server.url, "--timeout=1", "--timeout-method=signal")
    result.assert_outcomes(failed=1)


def test_servers_change_once_per_model_under_xdist(run: Run) -> None:
    source = "import pytest\n@pytest.mark.parametrize('n', range(8))\n"
    source += "def test_it(vllm_server, n): ...\n"
    with FakeServer("m") as server:
        result = run(source, "--vllm-url", server.url, workers=True)
        starts = [r for r in server.requests if r.path == "/v1/models"]
    result.assert_outcomes(passed=8)
    assert len([r for r in starts if r.method == "GET"]) <= 2


def test_core_means_what_the_tests_own_mark_says(run: Run) -> None:
    source = """
import pytest
pytestmark = pytest.mark.core

def test_must(vllm_spec): ...

@pytest.mark.optional
def test_may(vllm_spec): ...
"""
    result = run(source, "--vllm-model=a", "-m", "core")
    result.assert_outcomes(passed=1, deselected=1)
