"""Known deviations: expected where they are listed, news where they are gone."""

from __future__ import annotations

import json

import pytest

from pytest_vllm import deviations
from tests.fake_server import FakeServer
from tests.plugin.conftest import Run

SOURCE = """
import pytest
from pytest_vllm.client.failure import CheckFailed

@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.parametrize("n", [1, 2])
def test_rule(vllm_api, n):
    {body}
"""
BREAKS = 'raise CheckFailed("The text must be right")'
ENTRY = """
[[deviation]]
test = "test_inner.py::test_rule[1]"
versions = ">=0.1,<900"
issue = "vllm#1"
reason = "The text is wrong."
"""


@pytest.fixture
def register(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner tests are the suite, and this is their register."""
    (pytester.path / "known.toml").write_text(ENTRY)
    monkeypatch.setattr(deviations, "SUITE", pytester.path)
    monkeypatch.setattr(deviations, "REGISTER", pytester.path / "known.toml")


@pytest.mark.usefixtures("register")
def test_a_known_deviation_is_an_expected_failure_with_its_reason(
    run: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    source = SOURCE.format(body=BREAKS)
    result = run(source, "--vllm-url", server.url, "-rx", "--vllm-results=r.json")
    result.assert_outcomes(failed=1, xfailed=1)
    said = "known deviation of vLLM * The text is wrong (vllm#1)"
    result.stdout.fnmatch_lines([f"      {said}", f"XFAIL *test_rule*1] - {said}"])
    first = json.loads((pytester.path / "r.json").read_text())["tests"][0]
    assert first["verdict"] == "expected_failure"
    assert first["message"] == first["deviation"]


@pytest.mark.usefixtures("register")
def test_a_known_deviation_is_no_core_failure(run: Run, server: FakeServer) -> None:
    result = run(SOURCE.format(body=BREAKS), "--vllm-url", server.url, "-k", "rule and 1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["Core works.*"])


@pytest.mark.usefixtures("register")
def test_a_deviation_that_is_gone_is_said_loudly_and_fails_nothing(
    run: Run, server: FakeServer
) -> None:
    result = run(SOURCE.format(body="..."), "--vllm-url", server.url)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*GONE, remove it from the register: known deviation of *"])


@pytest.mark.usefixtures("register")
@pytest.mark.parametrize("body", ["assert 0", "raise RuntimeError('ours')"])
def test_only_a_broken_rule_is_a_known_deviation(run: Run, server: FakeServer, body: str) -> None:
    result = run(SOURCE.format(body=body), "--vllm-url", server.url)
    result.assert_outcomes(failed=2)


@pytest.mark.usefixtures("register")
def test_runxfail_lets_a_known_deviation_count(run: Run, server: FakeServer) -> None:
    result = run(SOURCE.format(body=BREAKS), "--vllm-url", server.url, "--runxfail")
    result.assert_outcomes(failed=2)


@pytest.mark.usefixtures("register")
def test_a_wrong_register_is_refused_before_anything_runs(
    run: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    (pytester.path / "known.toml").write_text(ENTRY.replace("issue", "isue"))
    result = run(SOURCE.format(body="..."), "--vllm-url", server.url)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *known.toml, entry 1: issue must be there*"])
