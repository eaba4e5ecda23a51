"""What a failure means for the run: DESIGN section 2, rule by rule."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fake_server import FakeServer
from tests.plugin.conftest import INI, Run

OPTIONAL_FAILS = """
import pytest

@pytest.mark.optional
def test_it(vllm_server):
    assert 0, "models are missing"
"""


def test_an_optional_failure_does_not_fail_the_run(anyhow: Run, server: FakeServer) -> None:
    result = anyhow(OPTIONAL_FAILS, "--vllm-url", server.url)
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0


def test_an_optional_failure_shows_its_real_message(anyhow: Run, server: FakeServer) -> None:
    result = anyhow(OPTIONAL_FAILS, "--vllm-url", server.url, "-rx")
    result.stdout.fnmatch_lines(["XFAIL*optional: models are missing*"])


def test_strict_lets_an_optional_failure_count(anyhow: Run, server: FakeServer) -> None:
    result = anyhow(OPTIONAL_FAILS, "--vllm-url", server.url, "--vllm-strict")
    result.assert_outcomes(failed=1)
    assert result.ret == 1


def test_runxfail_lets_an_optional_failure_count(run: Run, server: FakeServer) -> None:
    result = run(OPTIONAL_FAILS, "--vllm-url", server.url, "--runxfail")
    result.assert_outcomes(failed=1)


def test_maxfail_does_not_count_optional_failures(run: Run, server: FakeServer) -> None:
    source = OPTIONAL_FAILS + "\ndef test_later(vllm_server):\n    pass\n"
    result = run(source, "--vllm-url", server.url, "--maxfail=1")
    result.assert_outcomes(xfailed=1, passed=1)


def test_an_optional_test_that_passes_is_passed(anyhow: Run, server: FakeServer) -> None:
    source = OPTIONAL_FAILS.replace("assert 0", "assert 1")
    anyhow(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_a_core_failure_fails_the_run(anyhow: Run, server: FakeServer) -> None:
    source = OPTIONAL_FAILS.replace("mark.optional", "mark.core")
    result = anyhow(source, "--vllm-url", server.url)
    result.assert_outcomes(failed=1)
    assert result.ret == 1


def test_a_users_own_test_counts(anyhow: Run, server: FakeServer) -> None:
    source = "def test_it(vllm_server):\n    assert 0\n"
    anyhow(source, "--vllm-url", server.url).assert_outcomes(failed=1)


def test_a_foreign_optional_mark_is_none_of_our_business(run: Run) -> None:
    source = "import pytest\n@pytest.mark.optional\ndef test_it():\n    assert 0\n"
    run(source).assert_outcomes(failed=1)


def test_a_server_that_is_not_there_is_an_error_at_every_level(anyhow: Run) -> None:
    result = anyhow(OPTIONAL_FAILS, "--vllm-url", "http://127.0.0.1:9")
    result.assert_outcomes(errors=1)
    assert result.ret == 1


def test_the_report_of_a_failed_start_is_shown_once(anyhow: Run) -> None:
    source = "def test_a(vllm_server): ...\ndef test_b(vllm_server): ...\n"
    source += "def test_c(vllm_server): ...\ndef test_d(vllm_server): ...\n"
    result = anyhow(source, "--vllm-url", "http://127.0.0.1:9", "--vllm-model", "m")
    result.assert_outcomes(errors=4)
    assert result.stdout.str().count("curl -sS http://127.0.0.1:9/v1/models") == 1


def test_a_teardown_error_of_an_optional_test_is_an_error(run: Run, server: FakeServer) -> None:
    source = """
import pytest

@pytest.fixture
def broken(vllm_server):
    yield
    raise RuntimeError("teardown")

@pytest.mark.optional
def test_it(broken):
    pass
"""
    result = run(source, "--vllm-url", server.url)
    result.assert_outcomes(passed=1, errors=1)
    assert result.ret == 1


def test_a_users_own_strict_xfail_keeps_its_meaning(run: Run, server: FakeServer) -> None:
    source = OPTIONAL_FAILS.replace("assert 0", "assert 1").replace(
        "@pytest.mark.optional", "@pytest.mark.optional\n@pytest.mark.xfail(strict=True)"
    )
    run(source, "--vllm-url", server.url).assert_outcomes(failed=1)


CHAT = """
import pytest
from pytest_vllm.errors import ChatNotSupported

@pytest.mark.optional
@pytest.mark.chat_model
def test_chat(vllm_server):
    raise {error}
"""


def test_the_refusal_of_a_base_model_is_expected(anyhow: Run, server: FakeServer) -> None:
    source = CHAT.format(error="ChatNotSupported('no template')")
    result = anyhow(source, "--vllm-url", server.url, "-rx")
    result.assert_outcomes(xfailed=1)
    result.stdout.fnmatch_lines(["XFAIL*facebook/opt-125m is a base model (server:*"])


def test_only_the_refusal_of_a_base_model_is_expected(anyhow: Run, server: FakeServer) -> None:
    source = CHAT.format(error="AssertionError('500 from the server')")
    result = anyhow(source, "--vllm-url", server.url, "--vllm-strict")
    result.assert_outcomes(failed=1)


def test_a_refusal_of_a_chat_model_is_a_failure(anyhow: Run, chat_server: FakeServer) -> None:
    source = CHAT.format(error="ChatNotSupported('no template')")
    result = anyhow(source, "--vllm-url", chat_server.url, "--vllm-strict")
    result.assert_outcomes(failed=1)


def test_the_users_word_beats_the_server(run: Run, server: FakeServer) -> None:
    source = CHAT.format(error="ChatNotSupported('no template')")
    result = run(source, "--vllm-url", server.url, "--vllm-kind=chat", "--vllm-strict")
    result.assert_outcomes(failed=1)


def test_a_missing_capability_is_skipped_with_the_evidence(anyhow: Run, server: FakeServer) -> None:
    source = """
import pytest

@pytest.mark.core
@pytest.mark.requires("embeddings")
def test_it(vllm_server):
    assert 0
"""
    result = anyhow(source, "--vllm-url", server.url, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*unsupported: *openapi*embeddings*"])


DIES = """
import os, signal, pytest

@pytest.mark.optional
def test_killer(vllm_server, vllm_client):
    os.kill(int(vllm_server.facts["pid"]), signal.SIGKILL)
    with pytest.raises(Exception):
        while True:
            vllm_client.get("/health")

def test_later(vllm_server):
    pass
"""


def test_a_death_is_a_failure_at_every_level_and_blamed_on_its_test(
    run: Run, stand_in: list[str]
) -> None:
    result = run(DIES, "--vllm-model", "acme/m", *stand_in)
    result.assert_outcomes(failed=1, errors=1)
    died = "The server of acme/m died during test_inner.py::test_killer*"
    result.stdout.fnmatch_lines([f"{died}: killed by signal 9"])
    result.stdout.fnmatch_lines([f"{died}(see the first error of this server)"])


def test_a_worker_that_crashes_holds_up_nobody(run: Run, stand_in: list[str]) -> None:
    source = """
import os, pytest

@pytest.mark.parametrize("n", range(4))
def test_it(vllm_server, n):
    if vllm_server.model == "acme/a" and n == 0:
        os._exit(1)
"""
    models = ("--vllm-model=acme/a", "--vllm-model=acme/b")
    result = run(source, *models, *stand_in, "-p", "no:timeout", workers=True)
    result.assert_outcomes(passed=7, failed=1)


@pytest.mark.parametrize(("style", "sources"), [((), 0), (("--tb=long",), 1)], ids=["auto", "long"])
def test_a_broken_rule_of_the_suite_is_shown_without_its_source(
    pytester: pytest.Pytester, server: FakeServer, style: tuple[str, ...], sources: int
) -> None:
    server.faults.add("completions_500")
    path = "::".join(["test_completions.py", "test_a_prompt_is_completed"])
    suite = Path(__file__).parents[2] / "pytest_vllm" / "suite"
    pytester.makeini(INI)
    options = ("-p", "no:xdist", "--vllm-lang=en", "--vllm-url", server.url, *style)
    text = pytester.runpytest_inprocess(str(suite / path), *options).stdout.str()
    assert "must be answered with 200" in text
    assert "curl -sS " in text
    assert text.count("def test_a_prompt_is_completed(") == sources
