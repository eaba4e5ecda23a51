"""The summary after the run: can I use it? One screen per run, however many tests there were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vllm.report import language
from pytest_vllm.report.language import pad
from pytest_vllm.report.outcome import CHAT_EXAMPLES
from pytest_vllm.servers.launcher import ADJUSTED

if TYPE_CHECKING:
    import pytest

    from pytest_vllm.report.records import Record
    from pytest_vllm.run import Run
    from pytest_vllm.servers.server import Server

#: verdict -> the word in the table, worst first: a group shows its worst.
_WORDS = {
    "error": "ERROR",
    "failed": "FAIL",
    "optional_failed": "fail",
    "expected_failure": "xfail",
    "passed": "ok",
    "unsupported": "n/a",
    "skipped": "skip",
}
_COLOURS = {"error": "red", "failed": "red", "optional_failed": "yellow", "passed": "green"}
_NOT_RUN = ("unsupported", "skipped")


def show(run: Run, terminal: pytest.TerminalReporter, exit_status: int) -> None:
    """Write the summary of every model of the run."""
    for complaint in run.complaints:
        terminal.ensure_newline()
        terminal.write_line(complaint, red=True)
    config = terminal.config
    if config.option.no_summary or config.get_verbosity() < -1 or not run.records.all():
        return
    say = language.for_setting(run.settings["lang"])
    servers = run.servers_by_spec()
    whole = exit_status in (0, 1) and not run.records.lost_tests
    for spec in dict.fromkeys((*run.specs, *servers, *run.failures())):
        model = run.model_of(spec)
        records = run.records.of(model)
        if records or spec in run.failures():
            summary = ModelSummary(servers.get(spec), run.failures().get(spec), records, say, whole)
            terminal.ensure_newline()
            terminal.section(f"vLLM: {model}")
            for line in summary.lines():
                terminal.write_line(line.text, **{line.colour: True} if line.colour else {})


@dataclass(frozen=True)
class Line:
    """One line and its colour, "" for none."""

    text: str
    colour: str = ""


@dataclass(frozen=True)
class ModelSummary:
    """What is said of one model; `whole` is false where tests were cut off or lost."""

    server: Server | None
    error: str | None
    records: list[Record]
    say: language.Say
    whole: bool = True

    def lines(self) -> list[Line]:
        """Every line after the title."""
        server = self.error.splitlines()[0] if self.error else server_line(self.server, self.say)
        rows = [Line(f"{pad(self.say('server'), 10)}{server}", "red" if self.error else "")]
        rows += [Line(f"  {note}", "yellow") for note in self._kept_notes()]
        rows += [self._count(level) for level in ("core", "optional") if _ran(self._level(level))]
        own = [record for record in self.records if not record.level]
        if own:
            rows.append(Line(f"{pad(self.say('own tests'), 10)}{self._passed(own)}"))
        rows += [self._row(group) for group in self._groups()]
        return [*rows, *self._optional_failures(), *self._deviations(), *self._verdict()]

    def _kept_notes(self) -> list[str]:
        """What the start changed: another server than asked for is being judged."""
        return [n for n in self.server.notes if n.startswith(ADJUSTED)] if self.server else []

    def _deviations(self) -> list[Line]:
        """What is known to be broken, and, loudly, what is not any more."""
        rules: dict[str, list[Record]] = {}
        for record in _ran(self.records):
            if record.deviation:
                rules.setdefault(record.deviation, []).append(record)
        lines = []
        for known, records in rules.items():
            failed = [record for record in records if record.verdict == "expected_failure"]
            if failed:
                more = f" (+{len(failed) - 1})" if len(failed) > 1 else ""
                lines += [Line(f"  {failed[0].id}{more}"), Line(f"      {known}")]
            elif all(record.verdict == "passed" for record in records):
                gone = self.say("GONE, remove it from the register: {known}", known=known)
                lines += [Line(f"  {records[0].id}", "red"), Line(f"      {gone}", "red")]
        return lines

    def _optional_failures(self) -> list[Line]:
        """In full: pytest shows core failures itself, and these nowhere."""
        lines = []
        for record in self.records:
            if record.verdict == "optional_failed":
                first, *rest = record.message.splitlines() or [""]
                lines.append(Line(f"  {record.id}", "yellow"))
                lines += [Line(f"      {text}") for text in (first, *rest)]
        return lines

    def _level(self, level: str) -> list[Record]:
        return [record for record in self.records if record.level == level]

    def _count(self, level: str) -> Line:
        return Line(f"{pad(self.say(level), 10)}{self._passed(self._level(level))}")

    def _passed(self, records: list[Record]) -> str:
        ran = _ran(records)
        passed = sum(record.verdict == "passed" for record in ran)
        return self.say("{passed}/{total} passed", passed=passed, total=len(ran))

    def _groups(self) -> list[list[Record]]:
        """The records of the suite, by endpoint and level; core first."""
        groups: dict[tuple[str, str], list[Record]] = {}
        for record in self.records:
            if record.endpoint:
                groups.setdefault((record.level, record.endpoint), []).append(record)
        order = sorted(groups, key=lambda key: (key[0] != "core", key[1]))
        return [groups[key] for key in order if self._tells(groups[key])]

    def _tells(self, group: list[Record]) -> bool:
        """Whether a row says something: what could not run is left out beside what did."""
        return _ran(group) != [] or not any(
            record.endpoint == group[0].endpoint for record in _ran(self.records)
        )

    def _row(self, group: list[Record]) -> Line:
        order = list(_WORDS)
        worst = min(group, key=lambda record: order.index(record.verdict))
        ran = _ran(group)
        passed = sum(record.verdict == "passed" for record in ran)
        count = f"{passed}/{len(ran)}" if len(ran) > 1 else ""
        reason = "" if worst.verdict == "passed" else self._reason(worst)
        text = (
            f"  {_WORDS[worst.verdict]:<7} {worst.endpoint:<36} {pad(self.say(worst.level), 9)}"
            f"{count:<6}{reason}"
        )
        return Line(text.rstrip(), _COLOURS.get(worst.verdict, ""))

    def _reason(self, record: Record) -> str:
        if record.verdict == "expected_failure" and self._is_base() and not record.deviation:
            chat = self.server.capabilities.chat if self.server else None
            who = self.say(f"decided by {chat.decided_by}") if chat else ""
            return self.say("base model: no chat template ({who})", who=who)
        return record.message.splitlines()[0][:100] if record.message else ""

    def _is_base(self) -> bool:
        return self.server is not None and self.server.capabilities.chat.kind == "base"

    def _verdict(self) -> list[Line]:
        """Can I use it?"""
        if self.error and not any(r.verdict == "passed" for r in self.records):
            return [Line(self.say("It does not work: the server is not there."), "red")]
        core = _ran(self._level("core"))
        bad = [r for r in core if r.verdict in ("failed", "error")]
        lines = []
        if bad:
            names = ", ".join(sorted({r.endpoint or r.id for r in bad}))
            lines.append(Line(self.say("Core does not work: {names}.", names=names), "red"))
        elif core and not self.whole:
            lines.append(
                Line(self.say("Not every check ran: no verdict.") + self._hints(), "yellow")
            )
        elif core:
            lines.append(Line(self.say("Core works.") + self._hints(), "green"))
        elif hints := self._hints().strip():
            lines.append(Line(hints))
        return lines

    def _hints(self) -> str:
        text = ""
        failed = sum(record.verdict == "optional_failed" for record in self.records)
        if failed:
            text += " " + self.say("Optional checks that failed: {n}.", n=failed)
        a, b = CHAT_EXAMPLES
        refused = [r for r in self.records if r.verdict == "expected_failure" and not r.deviation]
        if refused and self._is_base():
            text += " " + self.say("Chat needs a chat model, for example {a} or {b}.", a=a, b=b)
        return text


def _ran(records: list[Record]) -> list[Record]:
    """The records of the tests that really ran."""
    return [record for record in records if record.verdict not in _NOT_RUN]


def server_line(server: Server | None, say: language.Say) -> str:
    """Image, version, platform, GPUs and start time, in one line."""
    if server is None:
        return say("not started")
    spec, facts = server.spec, server.facts
    parts = [facts.get("image") or spec.url or spec.python or ""]
    if image_id := facts.get("image_id"):
        parts[0] += f" ({(facts.get('image_digest') or image_id)[:19]}…)"
    parts.append(f"vLLM {server.version}" if server.version else say("version unknown"))
    if spec.launcher != "external":
        parts.append(spec.platform)
    if spec.gpus and spec.platform != "cpu":
        parts.append(f"{spec.gpus} GPU")
    if server.startup_s is not None:
        parts.append(say("ready in {s} s", s=round(server.startup_s)))
    return ", ".join(parts)
