#!/usr/bin/env python3
"""Write docs/conformance.md: every rule of the suite, read off the tests themselves.

    python docs/generate_conformance.py            # write it
    python docs/generate_conformance.py --check    # exit 1 if it is not up to date

What is written by hand stands in docs/conformance.template, around the lines `<!-- rules -->` and
`<!-- deviations -->`.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_vllm.deviations import REGISTER, read

HERE = Path(__file__).resolve().parent
SOURCE, TARGET, MARK = HERE / "conformance.template", HERE / "conformance.md", "<!-- rules -->"
REGISTER_MARK = "<!-- deviations -->"


@dataclass
class Rule:
    """One test function of the suite."""

    file: str
    name: str
    level: str
    endpoint: str
    needs: tuple[str, ...]
    source: str
    cases: int = 1

    @property
    def text(self) -> str:
        """The rule in words, with the number of cases of a table."""
        words = self.name.removeprefix("test_").replace("_", " ")
        return f"{words} ({self.cases} cases)" if self.cases > 1 else words

    @property
    def row(self) -> str:
        """The row of the table."""
        level = self.level + (", alone" if "alone" in self.needs else "")
        needs = ", ".join(need for need in self.needs if need != "alone")
        return f"| {self.text} | {level} | {needs} | {self.source} |"


@dataclass
class Collector:
    """A plugin of pytest that keeps what was collected."""

    rules: dict[tuple[str, str], Rule] = field(default_factory=dict)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the marks."""
        for item in session.items:
            assert isinstance(item, pytest.Function)
            key = (item.path.name, item.originalname)
            if key in self.rules:
                self.rules[key].cases += 1
            else:
                self.rules[key] = _rule(item, *key)


def _rule(item: pytest.Function, file: str, name: str) -> Rule:
    level = next((name for name in ("core", "optional") if item.get_closest_marker(name)), "")
    needs = [str(name) for mark in item.iter_markers("requires") for name in mark.args]
    needs += [name for name in ("chat_model", "alone") if item.get_closest_marker(name)]
    source, endpoint = item.get_closest_marker("source"), item.get_closest_marker("endpoint")
    return Rule(
        file,
        name,
        level,
        str(endpoint.args[0]) if endpoint else "",
        tuple(dict.fromkeys(needs)),
        str(source.args[0]) if source else "",
    )


def collect() -> list[Rule]:
    """Collect the suite; nothing is started."""
    collector = Collector()
    options = ["--collect-only", "-qq", "-p", "no:cacheprovider"]
    where = ["--pyargs", "pytest_vllm.suite", "--vllm-model=some/model"]
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main([*options, *where], plugins=[collector])
    if code != 0:
        sys.exit(f"the suite cannot be collected (pytest says {code})")
    return list(collector.rules.values())


def table(rules: Iterable[Rule]) -> str:
    """The rules, by endpoint."""
    groups: dict[str, list[Rule]] = {}
    for rule in rules:
        groups.setdefault(rule.endpoint, []).append(rule)
    parts = []
    for endpoint, members in sorted(groups.items()):
        head = ["| Rule | Level | Needs | Source |", "|---|---|---|---|"]
        rows = [rule.row for rule in members]
        parts.append("\n".join([f"### {endpoint or 'Others'}", "", *head, *rows]))
    return "\n\n".join(parts)


def deviations() -> str:
    """The register, as a table."""
    rows = [
        f"| `{entry.test}` | {entry.versions} | {entry.reason} | {entry.issue} |"
        for entry in read(REGISTER).entries
    ]
    return "\n".join(["| Test | Versions | What vLLM does | Issue |", "|---|---|---|---|", *rows])


def main() -> int:
    """Write the page, or compare it."""
    text = SOURCE.read_text().replace(MARK, table(collect())).replace(REGISTER_MARK, deviations())
    if "--check" in sys.argv:
        current = TARGET.read_text() if TARGET.exists() else ""
        if current != text:
            print("docs/conformance.md is not up to date: python docs/generate_conformance.py")
        return int(current != text)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
