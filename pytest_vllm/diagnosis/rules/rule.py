"""A rule: what a failure looks like, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Found", "Numbers", "Rule", "rule"]

Numbers = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """A rule that recognised a line.

    Attributes:
        match: Of the rule's pattern in the line.
        context: All lines of interest, for figures that stand elsewhere.
        spec: What was asked for (a ServerSpec), if anybody knows.
    """

    match: re.Match[str]
    context: str = ""
    spec: Any = None

    def __getitem__(self, name: str) -> str:
        return self.match[name] or ""

    def number(self, name: str) -> float:
        """A group of the pattern as a number."""
        return float(self.match[name])


@dataclass(frozen=True)
class Rule:
    """One way in which servers fail.

    Attributes:
        cause: The class, a stable name.
        pattern: Found within one line.
        title: What happened, in one sentence; `{group}` is filled in from the pattern.
        remedy: What to do; the same, or computed.
        numbers: The figures that the remedy rests on.
        anywhere: Look at every line of interest, and not only at likely root causes.
        badness: Where several lines match, the one with the greatest value decides.
    """

    cause: str
    pattern: re.Pattern[str]
    title: str
    remedy: str | Callable[[Found], str]
    numbers: Callable[[Found], Numbers] | None = None
    anywhere: bool = False
    badness: Callable[[re.Match[str]], float] | None = None

    def worst_in(self, text: str) -> re.Match[str] | None:
        """The first match, or the worst of all where that can be said (the fullest GPU)."""
        if self.badness is None:
            return self.pattern.search(text)
        return max(self.pattern.finditer(text), key=self.badness, default=None)

    def title_for(self, found: Found) -> str:
        """The title with the figures of this failure."""
        return _filled(self.title, found)

    def remedy_for(self, found: Found) -> str:
        """The remedy with the figures of this failure."""
        return self.remedy(found) if callable(self.remedy) else _filled(self.remedy, found)

    def numbers_for(self, found: Found) -> Numbers:
        """The figures, by name: of the function, or the named groups of the pattern."""
        if self.numbers:
            return self.numbers(found)
        return {k: _plain(v) for k, v in found.match.groupdict().items() if v is not None}


def rule(
    cause: str,
    pattern: str,
    title: str,
    remedy: str | Callable[[Found], str],
    numbers: Callable[[Found], Numbers] | None = None,
    *,
    anywhere: bool = False,
    badness: Callable[[re.Match[str]], float] | None = None,
) -> Rule:
    """Make a rule; the pattern is compiled here."""
    return Rule(cause, re.compile(pattern, re.MULTILINE), title, remedy, numbers, anywhere, badness)


def _filled(text: str, found: Found) -> str:
    values = {k: v or "" for k, v in found.match.groupdict().items()}
    return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), text)


def _plain(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
