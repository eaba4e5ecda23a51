"""The fixtures that users write their own tests with."""

from __future__ import annotations

import pytest

from tests.fake_server import FakeServer
from tests.plugin.conftest import INI, Run


def test_the_server_says_what_it_is(anyhow: Run, server: FakeServer) -> None:
    source = f"""
def test_it(vllm_server):
    assert vllm_server.base_url == "{server.url}"
    assert vllm_server.model == "facebook/opt-125m"
    assert vllm_server.version
    assert vllm_server.capabilities.has("completions")
    assert vllm_server.spec.url == "{server.url}"
    assert vllm_server.url("/v1/models") == "{server.url}/v1/models"
"""
    anyhow(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_the_client_talks_to_the_server(anyhow: Run, server: FakeServer) -> None:
    source = """
def test_it(vllm_client, vllm_server):
    answer = vllm_client.post(
        "/v1/completions", json={"model": vllm_server.model, "prompt": "Hi", "max_tokens": 4}
    )
    assert answer.json()["choices"][0]["text"]
"""
    anyhow(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_the_async_client_lives_in_the_tests_event_loop(run: Run, server: FakeServer) -> None:
    source = """
import asyncio

def test_it(vllm_async_client):
    async def ask():
        async with vllm_async_client as client:
            return await client.get("/health")
    assert asyncio.run(ask()).status_code == 200
"""
    run(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_the_async_client_works_with_pytest_asyncio(
    pytester: pytest.Pytester, server: FakeServer
) -> None:
    pytester.makeini(
        INI.replace("-p no:asyncio", "") + "asyncio_default_fixture_loop_scope = function\n"
    )
    pytester.makepyfile(
        """
import pytest

@pytest.mark.asyncio
@pytest.mark.parametrize("n", [1, 2])
async def test_it(vllm_async_client, n):
    async with vllm_async_client as client:
        assert (await client.get("/health")).status_code == 200
"""
    )
    pytester.runpytest_subprocess("--vllm-url", server.url).assert_outcomes(passed=2)


def test_the_openai_client_talks_to_the_server(run: Run, server: FakeServer) -> None:
    pytest.importorskip("openai")
    source = """
def test_it(openai_client, vllm_server):
    answer = openai_client.completions.create(model=vllm_server.model, prompt="Hi", max_tokens=4)
    assert answer.choices[0].text
"""
    run(source, "--vllm-url", server.url).assert_outcomes(passed=1)


def test_every_fixture_is_explained(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--fixtures", "-p", "no:asyncio").stdout.str()
    names = ("vllm_spec", "vllm_server", "vllm_client", "vllm_async_client", "openai_client")
    for name in (*names, "async_openai_client", "vllm_note"):
        assert f"{name}" in text
        assert f"{name}\n    no docstring available" not in text


def test_the_async_openai_client_talks_to_the_server(run: Run, server: FakeServer) -> None:
    pytest.importorskip("openai")
    source = """
import asyncio

def test_it(async_openai_client, vllm_server):
    async def ask():
        async with async_openai_client as client:
            return await client.completions.create(
                model=vllm_server.model, prompt="Hi", max_tokens=4
            )
    assert asyncio.run(ask()).choices[0].text
"""
    run(source, "--vllm-url", server.url).assert_outcomes(passed=1)
