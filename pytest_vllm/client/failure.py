"""What a check says when its rule is broken: the rule, expected and seen, how to reproduce it."""

from __future__ import annotations

import json
from typing import Any

from pytest_vllm.redaction import redact

#: Longer values are cut: the curl line gets the whole answer.
SHOWN = 200
_NOTHING: Any = object()


class CheckFailed(AssertionError):
    """A rule does not hold.

    The first line alone makes sense, since one-line reports show nothing else. `rule` is a
    sentence with "must"; the curl lines are added by whoever knows the request.
    """

    # So that pytest shows `CheckFailed: …`, as it does for its own outcomes.
    __module__ = "builtins"

    def __init__(self, rule: str, *, expected: Any = _NOTHING, seen: Any = _NOTHING) -> None:
        parts = [("expected", expected), ("got", seen)]
        values = ", ".join(f"{word} {show(v)}" for word, v in parts if v is not _NOTHING)
        super().__init__(f"{rule}: {values}" if values else rule)
        self._curls: list[str] = []

    def reproduced_by(self, *curls: str) -> CheckFailed:
        """Add the commands that show the failure again; each only once."""
        self._curls += [curl for curl in curls if curl not in self._curls]
        return self

    def __str__(self) -> str:
        return redact("\n".join([self.args[0], *(f"  {curl}" for curl in self._curls)]))


class NoAnswer(CheckFailed):
    """There is no complete answer: no connection, a cut one, or it took too long."""

    __module__ = "builtins"


class Text(str):
    """A value that `show` prints as it is, without quotes: words, not data."""

    __slots__ = ()


def show(value: Any) -> str:
    """Show a value as it looks on the wire (`null`, not `None`), cut to a readable length."""
    shown = (
        value if isinstance(value, Text) else json.dumps(value, ensure_ascii=False, default=repr)
    )
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}… ({len(shown)} characters)"
