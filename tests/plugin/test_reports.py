"""Summary, JUnit, JSON results, progress."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from tests.fake_server import FakeServer
from tests.plugin.conftest import Run

SOURCE = """
import pytest

@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
def test_core(vllm_client, vllm_note):
    vllm_note("reply: November")

@pytest.mark.optional
@pytest.mark.endpoint("GET /v1/models")
def test_optional(vllm_client):
    assert 0, "the list is empty"

@pytest.mark.optional
@pytest.mark.requires("embeddings")
@pytest.mark.endpoint("POST /v1/embeddings")
def test_unsupported(vllm_client): ...

def test_own(vllm_client): ...

@pytest.mark.skip(reason="later")
def test_skipped(vllm_client): ...
"""


def results(pytester: pytest.Pytester) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return loaded


def test_the_summary_is_one_screen_with_a_verdict(anyhow: Run, server: FakeServer) -> None:
    anyhow(SOURCE, "--vllm-url", server.url).stdout.fnmatch_lines(
        [
            "=* vLLM: facebook/opt-125m =*",
            f"server    {server.url}, vLLM *",
            "core      1/1 passed",
            "optional  0/1 passed",
            "own tests 1/1 passed",
            "  ok      POST /v1/completions * core",
            "  fail    GET /v1/models * optional * the list is empty",
            "  n/a     POST /v1/embeddings * optional *",
            "Core works. Optional checks that failed: 1.",
        ]
    )


def test_the_summary_speaks_chinese(run: Run, server: FakeServer) -> None:
    result = run(SOURCE, "--vllm-url", server.url, "--vllm-lang=zh")
    result.stdout.fnmatch_lines(["服务器 *", "核心 * 通过 1/1", "*核心功能正常。*"])


def test_the_summary_follows_the_locale(
    run: Run, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    result = run(SOURCE, "--vllm-url", server.url, "--vllm-lang=auto")
    result.stdout.fnmatch_lines(["*核心功能正常。*"])


def test_a_core_failure_is_said_by_name(anyhow: Run, server: FakeServer) -> None:
    source = SOURCE.replace('vllm_note("reply: November")', "assert 0")
    result = anyhow(source, "--vllm-url", server.url)
    result.stdout.fnmatch_lines(["Core does not work: POST /v1/completions."])


def test_a_hundred_tests_of_an_endpoint_are_one_row(run: Run, server: FakeServer) -> None:
    source = """
import pytest

@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.parametrize("n", range(100))
def test_it(vllm_client, n):
    assert n != 7
"""
    result = run(source, "--vllm-url", server.url)
    rows = [line for line in result.outlines if "POST /v1/completions " in line]
    assert len(rows) == 1
    assert "99/100" in rows[0]


def test_no_summary_is_respected(run: Run, server: FakeServer) -> None:
    result = run(SOURCE, "--vllm-url", server.url, "--no-summary")
    assert "vLLM: facebook" not in result.stdout.str()


def test_an_unrelated_run_has_no_summary(run: Run) -> None:
    assert "vLLM" not in run("def test_it(): ...").stdout.str()


def test_verbose_shows_what_a_passed_test_noted(anyhow: Run, server: FakeServer) -> None:
    result = anyhow(SOURCE, "--vllm-url", server.url, "-v")
    result.stdout.fnmatch_lines(["*PASSED reply: November*"])


def test_results_have_every_test_with_its_verdict(
    anyhow: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    anyhow(SOURCE, "--vllm-url", server.url, "--vllm-results=r.json")
    found = {t["id"].partition("::")[2].partition("[")[0]: t for t in results(pytester)["tests"]}
    assert {name: test["verdict"] for name, test in found.items()} == {
        "test_core": "passed",
        "test_optional": "optional_failed",
        "test_unsupported": "unsupported",
        "test_own": "passed",
        "test_skipped": "skipped",
    }
    assert found["test_optional"]["message"].startswith("the list is empty")
    assert found["test_core"]["endpoint"] == "POST /v1/completions"
    assert found["test_core"]["level"] == "core"


def test_results_describe_the_server(
    anyhow: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    anyhow(SOURCE, "--vllm-url", server.url, "--vllm-results=r.json")
    written = results(pytester)
    assert written["schema"] == 1
    assert written["servers"][0]["model"] == "facebook/opt-125m"
    assert written["servers"][0]["url"] == server.url
    assert written["servers"][0]["capabilities"]["chat"]["kind"] == "base"


def test_results_say_why_a_server_is_missing(run: Run, pytester: pytest.Pytester) -> None:
    run(SOURCE, "--vllm-url=http://127.0.0.1:9", "--vllm-model=m", "--vllm-results=r.json")
    written = results(pytester)
    assert written["servers"][0]["error"].startswith("m did not start: ")
    assert written["run"]["exit_status"] == 1


def test_junit_has_levels_and_the_message_of_an_optional_failure(
    anyhow: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    anyhow(SOURCE, "--vllm-url", server.url, "--junitxml=j.xml")
    root = ET.parse(pytester.path / "j.xml").getroot()
    cases = {str(c.get("name")).partition("[")[0]: c for c in root.iter("testcase")}
    properties = {p.get("name"): p.get("value") for p in cases["test_optional"].iter("property")}
    assert properties["vllm_level"] == "optional"
    assert str(properties["vllm_message"]).startswith("the list is empty\n")
    skipped = cases["test_optional"].find("skipped")
    assert skipped is not None
    assert skipped.get("message") == "optional: the list is empty"


def test_junit_describes_the_server(
    anyhow: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    anyhow(SOURCE, "--vllm-url", server.url, "--junitxml=j.xml")
    root = ET.parse(pytester.path / "j.xml").getroot()
    found = {p.get("name"): p.get("value") for p in root.findall("testsuite/properties/property")}
    assert found["vllm.model"] == "facebook/opt-125m"
    assert "completions" in str(found["vllm.capabilities"])


def test_junit_has_the_servers_log_during_a_failure(
    run: Run, stand_in: list[str], pytester: pytest.Pytester
) -> None:
    source = """
def test_it(vllm_client):
    vllm_client.get("/nowhere")
    assert 0
"""
    run(source, "--vllm-model=acme/m", *stand_in, "--junitxml=j.xml")
    root = ET.parse(pytester.path / "j.xml").getroot()
    found = {p.get("name"): str(p.get("value")) for p in root.iter("property")}
    assert "GET /nowhere" in found["vllm_server_log"]
    assert "Application startup complete" not in found["vllm_server_log"]


def test_progress_is_one_line_per_phase_where_there_is_no_terminal(
    anyhow: Run, stand_in: list[str]
) -> None:
    result = anyhow("def test_it(vllm_server): ...", "--vllm-model=acme/m", *stand_in)
    result.stdout.fnmatch_lines(["vLLM acme/m: loading weights*", "vLLM acme/m: ready in *"])


def test_quiet_shows_no_progress(run: Run, stand_in: list[str]) -> None:
    result = run("def test_it(vllm_server): ...", "--vllm-model=acme/m", "-q", *stand_in)
    assert "loading weights" not in result.stdout.str()


def test_every_optional_failure_is_shown_in_full(anyhow: Run, server: FakeServer) -> None:
    source = """
import pytest

@pytest.mark.optional
@pytest.mark.endpoint("GET /v1/models")
@pytest.mark.parametrize("n", [1, 2])
def test_it(vllm_client, n):
    assert 0, f"reason {n}\\n  curl line {n}"
"""
    result = anyhow(source, "--vllm-url", server.url)
    for n in (1, 2):
        result.stdout.fnmatch_lines([f"      reason {n}", f"*curl line {n}"])


def test_a_run_that_was_cut_off_has_no_verdict(run: Run, server: FakeServer) -> None:
    source = SOURCE + "\ndef test_stop(vllm_client):\n    pytest.exit('enough')\n"
    text = run(source, "--vllm-url", server.url).stdout.str()
    assert "Not every check ran: no verdict." in text
    assert "Core works" not in text


def test_a_results_file_that_cannot_be_written_costs_no_other_report(
    run: Run, server: FakeServer, pytester: pytest.Pytester
) -> None:
    (pytester.path / "folder").mkdir()
    options = ("--vllm-results=folder", "--junitxml=j.xml")
    result = run(SOURCE, "--vllm-url", server.url, *options)
    result.stdout.fnmatch_lines(["--vllm-results: folder could not be written: *", "core *"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (pytester.path / "j.xml").exists()


def test_an_earlier_results_file_survives_a_run_without_server_tests(
    run: Run, pytester: pytest.Pytester
) -> None:
    earlier = pytester.path / "r.json"
    earlier.write_text("earlier")
    run("def test_it(): ...", "--vllm-results=r.json")
    assert earlier.read_text() == "earlier"


def test_a_key_that_the_server_quotes_is_shown_nowhere(
    run: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, server: FakeServer
) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "sk-s3cret")
    source = """
import pytest

@pytest.mark.optional
def test_it(vllm_client, vllm_note):
    vllm_note("sk-s3" + "cret")
    pytest.fail("Invalid key: " + "sk-s3" + "cret", pytrace=False)
"""
    options = ("--vllm-results=r.json", "--junitxml=j.xml", "-rx")
    result = run(source, "--vllm-url", server.url, *options)
    written = result.stdout.str() + (pytester.path / "r.json").read_text()
    assert "sk-s3cret" not in written + (pytester.path / "j.xml").read_text()
    assert "$VLLM_API_KEY" in written
