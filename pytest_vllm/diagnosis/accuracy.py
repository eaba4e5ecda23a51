"""`python -m pytest_vllm.diagnosis.accuracy FILE`: how often is the diagnosis right?

FILE is JSONL, one failure a line: `log` and `cause`, and where they are known `id`, `acceptable`
(causes that are as right), `numbers` (figures that the diagnosis must state), `exit_code`,
`oom_killed`, `docker_error` and `command` (for the limits that it sets).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_vllm.diagnosis.diagnose import Diagnosis, diagnose
from pytest_vllm.diagnosis.ending import Ending

#: What collections call a failure that no rule is meant to know.
_UNKNOWN = ("unknown", "unknown_rare")

#: A limit in a command of `docker run` or `vllm serve` -> its name among the facts of a host.
_LIMITS = {
    "memory_mb": r"--memory[= ](\d+)m\b",
    "pids_limit": r"--pids-limit[= ](\d+)",
    "nofile": r"--ulimit[= ]nofile=(\d+)",
    "uid": r"--user[= ](\d+)",
    "port": r"--port[= ](\d+)",
}


@dataclass(frozen=True)
class Judged:
    """A case, what was found, and what is wrong with it."""

    case: Mapping[str, Any]
    found: Diagnosis

    @property
    def right(self) -> bool:
        """Whether the cause is the label, or as right."""
        wanted = {self.case["cause"], *(self.case.get("acceptable") or ())}
        if wanted & set(_UNKNOWN):
            wanted.add("unknown")
        # An engine that died is told with the reason why, or the reason with the death.
        died = "engine_died_serving" in (self.found.cause, self.case["cause"])
        return self.found.cause in wanted or (died and bool(wanted & set(self.found.also)))

    @property
    def wrong_figures(self) -> dict[str, tuple[Any, Any]]:
        """Name -> (wanted, found), for the figures that differ."""
        wanted = self.case.get("numbers") or {}
        pairs = {name: (value, self.found.numbers.get(name)) for name, value in wanted.items()}
        return {name: pair for name, pair in pairs.items() if not _same(*pair)}


def judge(cases: Iterable[Mapping[str, Any]]) -> Iterator[Judged]:
    """Diagnose each case."""
    for case in cases:
        log, docker_error = str(case["log"]), case.get("docker_error")
        state, host = _state(case), _host(str(case.get("command") or ""))
        yield Judged(case, diagnose(log, state=state, docker_error=docker_error, host=host))


def table(judged: Sequence[Judged]) -> list[str]:
    """Lines for people: a row per class, the errors, the sums."""
    total, right = Counter[str](), Counter[str]()
    for one in judged:
        total[one.case["cause"]] += 1
        right[one.case["cause"]] += one.right
    lines = [f"{'cause':<40} right  all"]
    lines += [f"{name:<40} {right[name]:>5} {total[name]:>4}" for name in sorted(total)]
    lines += ["", *(line for one in judged for line in _complaints(one))]
    figures = sum(len(one.case.get("numbers") or {}) for one in judged)
    wrong = sum(len(one.wrong_figures) for one in judged)
    healthy = [one for one in judged if one.case["cause"] == "none"]
    alarms = sum(not one.right for one in healthy)
    share = 100 * sum(right.values()) / max(1, len(judged))
    lines.append(f"causes    {sum(right.values())} of {len(judged)} right ({share:.1f} %)")
    lines.append(f"healthy   {alarms} of {len(healthy)} called ill")
    lines.append(f"figures   {figures - wrong} of {figures} right")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where every cause is right, 1 where not, 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_vllm.diagnosis.accuracy", description="How often is diagnose right?"
    )
    parser.add_argument("file", type=Path, help="JSONL of failures: log, cause, numbers, …")
    path = parser.parse_args(arguments).file
    try:
        judged = list(judge(_cases(path)))
    except (OSError, ValueError, KeyError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return 2
    print("\n".join(table(judged)))
    return 0 if all(one.right for one in judged) else 1


def _cases(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _state(case: Mapping[str, Any]) -> Ending | None:
    code = case.get("exit_code")
    # Some collections write how it ended as a word ("killed": by the harness).
    if not isinstance(code, int) and case.get("oom_killed") is None:
        return None
    return Ending(code if isinstance(code, int) else None, case.get("oom_killed"))


def _host(command: str) -> dict[str, int]:
    # Of an option that is given twice, the last one counts.
    found = {name: re.findall(pattern, command) for name, pattern in _LIMITS.items()}
    return {name: int(values[-1]) for name, values in found.items() if values}


def _complaints(one: Judged) -> Iterator[str]:
    name = one.case.get("id", "")
    if not one.right:
        yield f"{name}: {one.case['cause']}, not {one.found.cause}: {one.found.evidence[:160]}"
    for figure, (wanted, found) in one.wrong_figures.items():
        yield f"{name}: {figure} is {wanted!r}, not {found!r}"


def _same(wanted: Any, found: Any) -> bool:
    if isinstance(wanted, float) and isinstance(found, (int, float)):
        return abs(wanted - found) < 1e-6
    return bool(wanted == found)


if __name__ == "__main__":
    raise SystemExit(main())
