"""The outcome policy: what a failure means for the run (DESIGN section 2).

A failure of an optional check is turned into pytest's `xfailed`, with its real message, in
the call phase only: an `xfail` mark would also swallow a server that did not start. So
`--maxfail`, `-x` and the exit code leave it alone, and `--runxfail` or `--vllm-strict` make
it count. A server that died during the test is a failure whatever the test's level.

Only tests that use our fixtures are touched: `optional` is a common word.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.ahead import spec_of
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.errors import ChatNotSupported, Unsupported
from pytest_vllm.redaction import redact
from pytest_vllm.report.records import ATTRIBUTE, Record
from pytest_vllm.run import Run
from pytest_vllm.servers.logs import end_of, settle, slice_from

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.client.api import Api
    from pytest_vllm.servers.server import Server
    from pytest_vllm.spec import ServerSpec

_LOG_START = pytest.StashKey[int]()
_UNSUPPORTED = pytest.StashKey[bool]()
_NOTES = pytest.StashKey[list[str]]()
_TOOK = pytest.StashKey[float]()
NOTE = pytest.StashKey[str]()

#: What ends a test without anything being wrong: nobody looks into the log for it.
_NO_FAILURE = (pytest.skip.Exception, Unsupported, ChatNotSupported)

#: Where the suite's own tests are.
SUITE = Path(__file__).parents[1] / "suite"

#: Characters of the server's log that a report keeps.
_LOG_LIMIT = 4000


def level_of(item: pytest.Item) -> str:
    """`core`, `optional`, or "" for a user's own test without a mark.

    The closest mark counts: an optional test, or row of a table, may stand in a core module.
    """
    levels = (mark.name for mark in item.iter_markers() if mark.name in ("core", "optional"))
    return next(levels, "")


def refuse_without_server(run: Run, item: pytest.Item) -> None:
    """Before the fixtures: end a test at once whose server did not start, or died.

    Raises:
        pytest.fail.Exception: With one line; the report was shown when it happened.
    """
    spec = spec_of(item)
    if spec is not None and (reason := run.lost(spec)):
        pytest.fail(reason, pytrace=False)


def apply_capabilities(run: Run, item: pytest.Item) -> None:
    """After the fixtures: skip what the server cannot do, expect a base model's refusal.

    Raises:
        pytest.skip.Exception: A capability that the test `requires` is missing.
    """
    spec = spec_of(item)
    server = run.leased(spec) if spec else None
    if server is None:
        return
    item.stash[_LOG_START] = end_of(server.log_path)
    for mark in item.iter_markers("requires"):
        for name in mark.args:
            if not server.capabilities.has(name):
                item.stash[_UNSUPPORTED] = True
                pytest.skip(f"unsupported: {server.capabilities.why_not(name)}")
    if item.get_closest_marker("chat_model"):
        _expect_refusal(item, server)


def let_in(run: Run, item: pytest.Item) -> None:
    """Before the test itself: wait until it may use its server; start what comes next, too."""
    spec = spec_of(item)
    server = run.leased(spec) if spec else None
    if server is None:
        return
    if (stay := run.enter(server, alone=is_alone(item))) is not None:
        item.addfinalizer(stay.close)
    client = getattr(item, "funcargs", {}).get("vllm_client")
    if client is not None:
        run.ahead.look(item, server, lambda: run.api(server, client))


def is_alone(item: pytest.Item) -> bool:
    """Whether no other request may be on its way during the test."""
    return item.get_closest_marker("alone") is not None


def api_for(run: Run, item: pytest.Item, server: Server, client: httpx.Client) -> Api:
    """The Api of a test at its turn: the one that it runs with already, or a new one."""
    flight = run.ahead.flight(item)
    api = flight.api if flight else run.api(server, client)
    item.stash[_NOTES] = api.notes
    return api


def take_result(run: Run, item: pytest.Item) -> bool | None:
    """Instead of the test: what it came to ahead of its turn. None if it did not run ahead.

    Raises what the test raised.
    """
    __tracebackhide__ = True
    flight = run.ahead.flight(item)
    if flight is None:
        return None
    try:
        flight.take()
    finally:
        item.stash[_NOTES] = flight.api.notes
        item.stash[_LOG_START] = flight.log_start
        if flight.done.is_set():
            item.stash[_TOOK] = flight.elapsed_s
    return True


@contextlib.contextmanager
def aftermath(run: Run, item: pytest.Item) -> Iterator[None]:
    """Around a test: one that is alone must leave an idle server. Raises CheckFailed."""
    spec = spec_of(item)
    server = run.leased(spec) if spec else None
    if server is None or not is_alone(item):
        yield
        return
    from pytest_vllm.aftermath import leaves_it_idle

    with leaves_it_idle(server) as began:
        yield
        item.stash[_TOOK] = time.monotonic() - began


@contextlib.contextmanager
def unsupported_is_skipped(item: pytest.Item) -> Iterator[None]:
    """While the test runs: `Unsupported` gives no verdict.

    Raises:
        pytest.skip.Exception: With the evidence.
    """
    try:
        yield
    except Unsupported as evidence:
        item.stash[_UNSUPPORTED] = True
        pytest.skip(f"unsupported: {evidence}")


def _expect_refusal(item: pytest.Item, server: Server) -> None:
    chat = server.capabilities.chat
    if chat.kind == "base":
        reason = (
            f"{server.model} is a base model ({chat.decided_by}: {chat.evidence}); "
            f"chat needs a chat model, for example {' or '.join(CHAT_EXAMPLES)}"
        )
        item.add_marker(pytest.mark.xfail(raises=ChatNotSupported, reason=reason, strict=False))


#: Chat models to name where chat was asked of a base model.
CHAT_EXAMPLES = ("Qwen/Qwen2-7B-Instruct", "google/gemma-3-4b-it")


@dataclass(frozen=True)
class Failure:
    """What is known of a failure before pytest makes its report."""

    death: str | None
    log: str


def look_at_failure(item: pytest.Item, call: pytest.CallInfo[None]) -> Failure | None:
    """Before the report is made: is the server alive, what did it log, properties for JUnit."""
    spec = spec_of(item)
    run = Run.of(item.config)
    server = run.leased(spec) if spec else None
    if spec is None or server is None or call.when != "call":
        return None
    death = run.death(spec, item)
    run.ahead.land(item)
    if death is None and (call.excinfo is None or call.excinfo.errisinstance(_NO_FAILURE)):
        return None
    if server.log_path is not None:
        settle(server.log_path)
    log = slice_from(server.log_path, item.stash.get(_LOG_START, 0))[-_LOG_LIMIT:]
    return Failure(death, redact(log))


def add_properties(item: pytest.Item, failure: Failure | None, error: str) -> None:
    """Per-test properties for JUnit; builtin types only, or xdist workers die of them."""
    spec = spec_of(item)
    if spec is None:
        return
    known = {name for name, _ in item.user_properties}
    values = {
        "vllm_model": Run.of(item.config).model_of(spec),
        "vllm_level": level_of(item),
        "vllm_endpoint": endpoint_of(item),
    }
    if error:
        values["vllm_message"] = error
    if failure and failure.log:
        values["vllm_server_log"] = failure.log
    item.user_properties += [(k, v) for k, v in values.items() if v and k not in known]


def endpoint_of(item: pytest.Item) -> str:
    """The label of `@pytest.mark.endpoint("POST /v1/completions")`, or ""."""
    mark = item.get_closest_marker("endpoint")
    return str(mark.args[0]) if mark and mark.args else ""


def message_of(call: pytest.CallInfo[None]) -> str:
    """The whole message of an exception, "" without one."""
    return redact(str(call.excinfo.value).strip()) if call.excinfo else ""


def error_line(call: pytest.CallInfo[None]) -> str:
    """The first line of an exception, without the class of a plain assertion."""
    if call.excinfo is None:
        return ""
    text = str(call.excinfo.value).strip() or call.excinfo.typename
    first = redact(text.splitlines()[0])
    plain = (AssertionError, pytest.fail.Exception, pytest.skip.Exception)
    return first if isinstance(call.excinfo.value, plain) else f"{call.excinfo.typename}: {first}"


def judge(
    item: pytest.Item,
    call: pytest.CallInfo[None],
    report: pytest.TestReport,
    failure: Failure | None,
) -> None:
    """Apply the policy to a report, and hang the test's record on it."""
    spec = spec_of(item)
    if spec is None:
        return
    if failure and failure.death:
        report.outcome = "failed"
        report.longrepr = failure.death
        report.__dict__.pop("wasxfail", None)
    elif (known := _deviation(item, spec, report)) and _breaks_a_rule(item, call, report):
        report.outcome = "skipped"
        report.wasxfail = known
    elif _is_forgiven(item, call, report):
        report.outcome = "skipped"
        report.wasxfail = f"optional: {error_line(call)}"
    elif report.passed and item.get_closest_marker("chat_model"):
        # On a base model a refusal may be expected, and need not come: some rules hold there, too.
        report.__dict__.pop("wasxfail", None)
    if failure and failure.log and report.failed:
        report.sections.append(("vLLM server log during this test", failure.log))
    if _is_ours(item) and _breaks_a_rule(item, call, report):
        _show_the_rule(item, call, report)
    verdict = _verdict(item, report)
    if report.when == "setup":
        # The start is the server's, and reported with it: the first test did not take so long.
        report.duration = max(0.0, report.duration - Run.of(item.config).take_wait())
    elif report.when == "call" and _TOOK in item.stash:
        report.duration = item.stash[_TOOK]
        del item.stash[_TOOK]
    if verdict == "unsupported" and isinstance(report.longrepr, tuple):
        report.longrepr = (*item.location[:1], (item.location[1] or 0) + 1, report.longrepr[2])
    if verdict is not None:
        message = failure.death if failure and failure.death else _message(call, report)
        setattr(report, ATTRIBUTE, _record(item, spec, report, verdict, message, failure))


def _deviation(item: pytest.Item, spec: ServerSpec, report: pytest.TestReport) -> str:
    """What the register of known deviations says of a test on its server, or ""."""
    run = Run.of(item.config)
    server = run.leased(spec)
    if report.when != "call" or server is None:
        return ""
    known = run.register.find(item, server)
    return known.said_of(server.version) if known else ""


def _breaks_a_rule(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> bool:
    return (
        report.failed
        and call.excinfo is not None
        and isinstance(call.excinfo.value, CheckFailed)
        and not item.config.getoption("runxfail", False)
    )


def _is_ours(item: pytest.Item) -> bool:
    return item.path.parent == SUITE


def _show_the_rule(
    item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
) -> None:
    """A broken rule as people want it: the sentence, the curl line, and where the check stands.

    The suite's source says nothing about the server. Whoever gives `--tb` gets what it says.
    """
    if call.excinfo is not None and item.config.getoption("tbstyle", "auto") == "auto":
        call.excinfo.traceback = call.excinfo.traceback.cut(path=item.path)
        report.longrepr = call.excinfo.getrepr(style="short", chain=False)


def _is_forgiven(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> bool:
    return (
        report.when == "call"
        and report.failed
        and call.excinfo is not None  # None for XPASS(strict), which stays a failure
        and level_of(item) == "optional"
        and not item.config.getoption("runxfail", False)
        and not Run.of(item.config).settings["strict"]
    )


def _verdict(item: pytest.Item, report: pytest.TestReport) -> str | None:
    if report.when != "call":
        if report.failed:
            return "error"
        if report.when == "setup" and report.skipped:
            return "unsupported" if item.stash.get(_UNSUPPORTED, False) else "skipped"
        return None
    if item.stash.get(_UNSUPPORTED, False):
        return "unsupported"
    if report.passed:
        return "passed"
    if report.failed:
        return "failed"
    reason = getattr(report, "wasxfail", None)
    if reason is None:
        return "skipped"
    return "optional_failed" if reason.startswith("optional: ") else "expected_failure"


def _message(call: pytest.CallInfo[None], report: pytest.TestReport) -> str:
    reason = getattr(report, "wasxfail", "")
    if reason and not reason.startswith("optional: "):
        return str(reason)
    return message_of(call)


def _note(item: pytest.Item) -> str:
    notes: list[str] = item.stash.get(_NOTES, [])
    return "; ".join([*notes, *filter(None, [item.stash.get(NOTE, "")])])


def _record(
    item: pytest.Item,
    spec: ServerSpec,
    report: pytest.TestReport,
    verdict: str,
    message: str,
    failure: Failure | None,
) -> dict[str, object]:
    return Record(
        id=item.nodeid,
        model=Run.of(item.config).model_of(spec),
        level=level_of(item),
        endpoint=endpoint_of(item),
        verdict=verdict,
        message=message,
        duration_s=round(report.duration if report.when == "call" else 0.0, 4),
        note=redact(_note(item)),
        log=failure.log if failure else "",
        deviation=_deviation(item, spec, report),
    ).as_dict()
