"""The pytest plugin: options, markers, fixtures and hooks; everything else is delegated.

PYTEST_DONT_REWRITE. Imported by every pytest run of the environment, so it imports pytest and
the option table only; docker, httpx and the rest come in when a test wants a server.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_vllm.settings import OPTIONS

if TYPE_CHECKING:
    import httpx
    import openai

    from pytest_vllm.client.api import Api
    from pytest_vllm.run import Run
    from pytest_vllm.servers.server import Server
    from pytest_vllm.spec import ServerSpec

MARKERS = (
    "core: every generating model must pass it; a failure fails the run",
    "optional: good to have; a failure is reported and does not fail the run (see --vllm-strict)",
    "chat_model: needs a chat template; on a base model the server's refusal is expected",
    "requires(name, ...): skipped, with the evidence, where the server lacks a capability",
    "alone: no other request may be on its way to the server during the test",
    "source(text): where the rule of the test comes from, for docs/conformance.md",
    "endpoint(label): what the test talks to, for reports: 'POST /v1/completions (stream)'",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add every option as command-line option and ini key."""
    group = parser.getgroup("vllm", "vLLM servers")
    for option in OPTIONS:
        how: dict[str, Any] = {"dest": option.ini, "default": None}
        if option.is_flag:
            how |= {"action": "store_true"}
        else:
            how |= {"action": "append" if option.many else "store", "metavar": option.metavar}
        group.addoption(option.cli, help=f"{option.help} [env: {option.env}]", **how)
        kind: Literal["args", "string"] = "args" if option.many else "string"
        parser.addini(option.ini, f"Default of {option.cli}", type=kind, default=None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers; refuse wrong options before anything slow starts."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if any(config.getoption(option.ini) is not None for option in OPTIONS):
        _run(config).check_options()


def _run(config: pytest.Config) -> Run:
    from pytest_vllm.run import Run

    return Run.of(config)


def _existing(config: pytest.Config) -> Run | None:
    """The run, if it exists: without it, none of our modules needs to be imported."""
    import sys

    module = sys.modules.get("pytest_vllm.run")
    return module.Run.existing(config) if module else None


# --- collection ------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses a server once per model."""
    if "vllm_spec" in metafunc.fixturenames:
        from pytest_vllm.collection import parametrize

        parametrize(metafunc, _run(metafunc.config))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sort by server, and keep start-up out of the tests' own time-outs."""
    if (run := _existing(config)) is not None:
        from pytest_vllm.collection import arrange

        arrange(run, items)


# --- one test --------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Before the fixtures: end at once without a server. After: apply what it can do."""
    if (run := _existing(item.config)) is None:
        return (yield)
    from pytest_vllm.report import outcome

    outcome.refuse_without_server(run, item)
    yield
    outcome.apply_capabilities(run, item)
    outcome.let_in(run, item)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Skip what turns out to be unsupported; look what a test that was alone leaves behind."""
    if (run := _existing(pyfuncitem.config)) is None:
        return (yield)
    from pytest_vllm.report import outcome

    with outcome.unsupported_is_skipped(pyfuncitem), outcome.aftermath(run, pyfuncitem):
        return (yield)


@pytest.hookimpl(specname="pytest_pyfunc_call", tryfirst=True)
def pytest_vllm_pyfunc_call_ahead(pyfuncitem: pytest.Function) -> bool | None:
    """Take the result of a test that ran ahead of its turn."""
    if (run := _existing(pyfuncitem.config)) is None:
        return None
    from pytest_vllm.report import outcome

    return outcome.take_result(run, pyfuncitem)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Apply the outcome policy."""
    if _existing(item.config) is None:
        return (yield)
    from pytest_vllm.report import outcome

    failure = outcome.look_at_failure(item, call)
    outcome.add_properties(item, failure, outcome.message_of(call))
    report = yield
    outcome.judge(item, call, report, failure)
    return report


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """With -v, show what a passed test noted, such as the model's reply."""
    note = getattr(report, "vllm_record", {}).get("note")
    if note and report.when == "call" and report.passed:
        return "passed", ".", f"PASSED {note}"
    return None


# --- the run ---------------------------------------------------------------------------------


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell an xdist worker the way to the one pool, and where to wait for its turn."""
    run = _run(node.config)
    node.workerinput |= {"vllm_broker": run.broker.link, "vllm_folder": str(run.folder)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Let nobody wait for the leases of an xdist worker that crashed."""
    if (run := _existing(node.config)) is not None:
        run.forget_worker(node.gateway.id)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """Write the reports' data before pytest writes JUnit; stop the servers at the very end."""
    run = _existing(session.config)
    if run is not None and not run.is_worker:
        from pytest_vllm.report import finish

        finish.write(run, session)
    try:
        yield
    finally:
        if run is not None:
            run.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    """Sum up per model."""
    run = _existing(terminalreporter.config)
    if run is not None and not run.is_worker:
        from pytest_vllm.report import summary

        summary.show(run, terminalreporter, int(exitstatus))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers, should the session have ended before it could."""
    if (run := _existing(config)) is not None:
        run.close()


# --- fixtures --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def vllm_spec(request: pytest.FixtureRequest) -> ServerSpec:
    """The ServerSpec of this test: model, image, platform, arguments."""
    spec: ServerSpec = request.param
    return spec


@pytest.fixture(scope="session")
def vllm_server(request: pytest.FixtureRequest, vllm_spec: ServerSpec) -> Iterator[Server]:
    """A vLLM server that is ready: base_url, model, version, capabilities, log_path, spec."""
    run = _run(request.config)
    yield run.lease(vllm_spec)
    run.release(vllm_spec)


@pytest.fixture(scope="session")
def vllm_client(vllm_server: Server) -> Iterator[httpx.Client]:
    """An httpx.Client for the server: base URL, key and time-outs set."""
    from pytest_vllm.client.http import make_client

    with make_client(vllm_server.base_url) as client:
        yield client


@pytest.fixture
def vllm_api(request: pytest.FixtureRequest, vllm_server: Server, vllm_client: httpx.Client) -> Api:
    """An Api: requests whose answers are read strictly, streamed or not."""
    from pytest_vllm.report.outcome import api_for

    return api_for(_run(request.config), request.node, vllm_server, vllm_client)


@pytest.fixture
def vllm_async_client(vllm_server: Server) -> httpx.AsyncClient:
    """An httpx.AsyncClient for the server, to be opened by the test: `async with …`."""
    from pytest_vllm.client.http import make_async_client

    return make_async_client(vllm_server.base_url)


@pytest.fixture(scope="session")
def openai_client(vllm_server: Server) -> Iterator[openai.OpenAI]:
    """An openai.OpenAI client for the server, without retries; needs the package openai."""
    from pytest_vllm.client.sdk import make_openai

    with make_openai(vllm_server.base_url) as client:
        yield client


@pytest.fixture
def async_openai_client(vllm_server: Server) -> openai.AsyncOpenAI:
    """An openai.AsyncOpenAI client, to be opened by the test: `async with …`."""
    from pytest_vllm.client.sdk import make_async_openai

    return make_async_openai(vllm_server.base_url)


@pytest.fixture
def vllm_note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """A function that takes a line to be shown with -v beside the test, and in reports."""
    from pytest_vllm.report.outcome import NOTE

    def note(text: str) -> None:
        request.node.stash[NOTE] = text

    return note
