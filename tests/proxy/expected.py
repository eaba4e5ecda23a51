"""What each fault must turn red, as measured and kept in tests/recordings/expected-*.json.

An entry names tests that go red with the rule that each then names, and neighbours that stay green.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tests.proxy.harness import Test, Verdict

FOLDER = Path(__file__).parents[1] / "recordings"
_VALUES = re.compile(r": (?:expected|got) .*")
_NUMBERS = re.compile(r"\d+")


def sentence(message: str) -> str:
    """The rule of a failure's message: its first line without values and numbers."""
    first = message.split("\n")[0]
    return _NUMBERS.sub("#", _VALUES.sub("", first))[:160]


@dataclass(frozen=True)
class Expected:
    """What one fault does to a few tests: red test -> rule, and tests that stay green."""

    red: dict[str, str]
    green: tuple[str, ...]

    def of(self, tests: dict[str, Test]) -> list[Test]:
        """The tests that are named, as far as the suite still has them."""
        return [tests[name] for name in (*self.red, *self.green) if name in tests]


def slug(model: str) -> str:
    """A model's name in file names."""
    return model.replace("/", "--")


def load(model: str) -> dict[str, Expected]:
    """What is expected of each fault on a model."""
    path = FOLDER / f"expected-{slug(model)}.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    return {name: Expected(e["red"], tuple(e["green"])) for name, e in entries.items()}


def save(model: str, expected: dict[str, Expected]) -> None:
    """The reverse of `load`."""
    entries = {n: {"red": e.red, "green": list(e.green)} for n, e in sorted(expected.items())}
    path = FOLDER / f"expected-{slug(model)}.json"
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def judged(verdicts: list[Verdict], other: dict[str, str]) -> dict[str, str]:
    """The red tests and their rules, without those that were red before."""
    red = {v.test: sentence(v.message) for v in verdicts if v.outcome == "failed"}
    return {test: rule for test, rule in red.items() if test not in other}
