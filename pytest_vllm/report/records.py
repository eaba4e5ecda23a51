"""One record per test: what every report (terminal, JSON, JUnit, HTML) is made of.

A record is made where the test runs, as plain builtin types on pytest's own report object,
and so reaches the xdist controller by itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest


#: The attribute of pytest's report that carries the record.
ATTRIBUTE = "vllm_record"

#: Every verdict that a test can have; docs/results.md explains them.
VERDICTS = (
    "passed",
    "failed",
    "optional_failed",
    "expected_failure",
    "unsupported",
    "error",
    "skipped",
)


@dataclass(frozen=True)
class Record:
    """One test's verdict.

    Attributes:
        id: pytest's node id.
        model: The model as the user wrote it, or as the server at a URL calls it.
        level: `core`, `optional`, or "" for a user's own test.
        endpoint: `POST /v1/completions (stream)`, or "".
        verdict: One of VERDICTS.
        message: Why, in one line where possible; "" for a plain pass.
        duration_s: Seconds of the test itself, without the start of the server.
        note: What the test wants shown, such as the model's reply.
        log: The slice of the server's log that was written during a failing test.
        deviation: What the register of known deviations says of the test on this server.
    """

    id: str
    model: str
    level: str
    endpoint: str
    verdict: str
    message: str = ""
    duration_s: float = 0.0
    note: str = ""
    log: str = ""
    deviation: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The record as builtin types."""
        return asdict(self)


class Records:
    """Collects the records of a run, as a plugin of pytest on whatever process reports."""

    def __init__(self) -> None:
        self._by_id: dict[str, Record] = {}
        self.lost_tests = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the record off a report, if it has one; the last phase that matters decides."""
        raw = getattr(report, ATTRIBUTE, None)
        if raw is None:
            # A worker that crashed takes its test's record with it.
            ended = report.when in ("setup", "call", "teardown")
            self.lost_tests |= not ended and report.failed
            return
        record = Record(**raw)
        before = self._by_id.get(record.id)
        if before is not None and report.when == "teardown":
            # The teardown failed after the verdict: an error, but the first message stays.
            message = (
                f"{before.message}; then {record.message}" if before.message else record.message
            )
            record = replace(before, verdict="error", message=message)
        self._by_id[record.id] = record

    def all(self) -> list[Record]:
        """The records in the order in which the tests ended."""
        return list(self._by_id.values())

    def of(self, model: str) -> list[Record]:
        """The records of one model."""
        return [record for record in self._by_id.values() if record.model == model]
