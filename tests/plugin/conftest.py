"""pytest runs inside pytest, against a small server on loopback; plain and with two workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

# Imported before any inner run, which forgets what it imports: httpx would import a second
# httpcore later, and no longer know the exceptions of the first.
import httpcore  # noqa: F401
import pytest

from tests.fake_server import FakeServer

Run = Callable[..., pytest.RunResult]

INI = """
[pytest]
filterwarnings = error
addopts = --strict-markers -p no:asyncio -p no:anyio -p no:cacheprovider -p no:schemathesis
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell reaches an inner run."""
    import os

    for name in os.environ:
        # pytest shortens nothing where it sees a CI system.
        if name.startswith(("VLLM_", "HF_")) or name in ("CI", "BUILD_NUMBER"):
            monkeypatch.delenv(name)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A healthy base model."""
    with FakeServer("facebook/opt-125m") as fake:
        yield fake


@pytest.fixture
def chat_server() -> Iterator[FakeServer]:
    """A healthy chat model."""
    with FakeServer("acme/tiny-chat", chat=True) as fake:
        yield fake


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run pytest in this process on a test module's source."""
    pytester.makeini(INI)

    def call(source: str, *arguments: str, workers: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_inner=source)
        if workers:
            return pytester.runpytest_subprocess("-n2", "--vllm-lang=en", *arguments)
        return pytester.runpytest_inprocess("-p", "no:xdist", "--vllm-lang=en", *arguments)

    return call


@pytest.fixture(params=[False, True], ids=["plain", "xdist"])
def anyhow(request: pytest.FixtureRequest, run: Run) -> Run:
    """The same, once plain and once under `-n2`: a rule must hold in both."""

    def call(source: str, *arguments: str) -> pytest.RunResult:
        return run(source, *arguments, workers=request.param)

    return call


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that start the stand-in for vLLM as a process: for life and death only."""
    import sys
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "e2e" / "standin"))
    return ["--vllm-launcher=process", f"--vllm-python={sys.executable}", "--vllm-platform=cpu"]
