"""The first error of the deepest process: the line of a vLLM log that says what went wrong.

The last line is always `Engine core initialization failed. See root cause above.`, printed by
the outermost process; the cause is the first error that the innermost one logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

#: `(EngineCore pid=7) ERROR 11-23 04:00:00 [core.py:12] ValueError: …`, worker or engine.
_PROCESS_ERROR = re.compile(
    r"^\((?:EngineCore|Worker|VllmWorker|APIServer)[^)]*\) ERROR .*?\] +"
    r"((?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt): .+)$"
)
#: A pydantic block: `  Value error, … [type=value_error, …`, printed without a prefix.
_CONFIGURATION = re.compile(r"^\s+Value error, (.+?)(?: \[type=|$)")
_PLAIN = re.compile(r"^(?:\([^)]*\) )?((?:[\w.]+\.)?\w*(?:Error|Exception): .+)$")
_USAGE = re.compile(r"^(?:\([^)]*\) )?(?:[\w.]+: )?(error: .+)$")

_GENERIC = ("Engine core initialization failed", "WorkerProc initialization failed")


def first_error(lines: Iterable[str]) -> str | None:
    """The most telling error line of a log, without its prefix; None if there is none."""
    configuration = plain = usage = None
    for raw in lines:
        line = _ANSI.sub("", raw).rstrip()
        if match := _specific(_PROCESS_ERROR, line):
            return match
        configuration = configuration or _specific(_CONFIGURATION, line)
        usage = usage or _specific(_USAGE, line)
        plain = _specific(_PLAIN, line) or plain
    return configuration or plain or usage


def _specific(pattern: re.Pattern[str], line: str) -> str | None:
    match = pattern.search(line)
    if match is None or any(generic in match[1] for generic in _GENERIC):
        return None
    return match[1].strip()
