"""A log as its rules see it: clean lines of interest, where each stood, and how far the server came.

Built in one pass, so that a log of 50 MB takes about a second: nearly all of such a log is INFO,
which only a handful of rules care for.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["Line", "Reading", "read"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
#: What compose, Kubernetes' log services and torchrun put before a line.
_WRAPPING = re.compile(
    r"^(?:[\w.-]+\s+\| )?(?:\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\s+)*"
    r"(?:(?:stdout|stderr) [FP] )?(?:\[rank\d+\]:\s?)?"
)
#: `(Worker_TP1 pid=7) `, `(EngineCore_DP0 pid=7) `, `(VllmWorkerProcess pid=7) `; Ray's `(… pid=7, ip=…) `.
_PROCESS = re.compile(r"^\(([A-Za-z]\w*)[^()]*\bpid=\d+[^()]*\) ?")
_LEVEL = re.compile(
    r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:\s+\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?|:)?\s+(?:\[[^\]]*\] ?)?"
)
_EXCEPTION = re.compile(
    r"^\s*(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|OutOfResources)\b\s*(?::|$)"
)

#: INFO lines that say something about a failure all the same.
_TELLING_INFO = ("Rate limited", "shm_broadcast", "No available shared memory", "Waiting for ")
_READY = "Application startup complete"
_SHUTDOWN = ("shutdown triggered", "Received SIGTERM", "INFO:     Shutting down")

#: Noise of healthy servers that reads like a failure.
_NOISE = re.compile(
    r"ulimit -n|from LD_PRELOAD cannot be preloaded|leaked (?:shared_memory|semaphore|instances)"
    r"|leaked function|nanobind: |Ignored error while|DeprecationWarning|FutureWarning|UserWarning"
)
_DEPTH = {
    "worker": 3,
    "vllmworker": 3,
    "rayworker": 3,
    "enginecore": 2,
    "engine": 2,
    "apiserver": 1,
}

#: Of a log with more lines of interest than this, so many of the first and of the last are kept.
_FIRST, _LAST = 1500, 500


@dataclass(frozen=True)
class Line:
    """A line without its prefixes.

    Attributes:
        text: What it says.
        depth: 3 for a worker, 2 for the engine, 1 for the API server, 0 if it does not say.
        level: `ERROR` and so on, or "".
        number: Counted from 1.
    """

    text: str
    depth: int
    level: str
    number: int

    @property
    def is_exception(self) -> bool:
        """Whether it is the last line of a traceback: `ValueError: …`."""
        return _EXCEPTION.match(self.text) is not None


@dataclass
class Reading:
    """What is known of a log."""

    lines: list[Line] = field(default_factory=list)
    ready: bool = False
    last: str = ""
    """The last line that says anything, whatever its level."""
    trace: str = ""
    """The source lines of tracebacks: which functions were under way."""

    def roots(self) -> list[Line]:
        """The lines that may be the root cause, most likely first.

        The last line of a log is the outermost process complaining about the inner one. The
        cause is the first exception of the deepest process; where the processes do not say who
        they are, the first that is no echo of another.
        """
        candidates = [line for line in self.lines if _may_be_root(line)]
        return sorted(candidates, key=lambda line: (-line.depth, line.number))


_ECHO = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|See root cause above"
    r"|Engine process failed to start|EngineDeadError|please check the stack trace above"
    r"|errors\.pydantic\.dev|died unexpectedly|cancelled$|SystemExit|KeyboardInterrupt"
)


def _may_be_root(line: Line) -> bool:
    telling = line.is_exception or line.text.lstrip().startswith(
        ("Value error,", "Input should", "error:")
    )
    telling = telling or ": error: " in line.text or line.text.startswith("docker: ")
    return telling and not _ECHO.search(line.text)


def read(log: str) -> Reading:
    """Read a log once."""
    reading, rest = Reading(), deque[tuple[int, str]](maxlen=_LAST)
    seen = set[tuple[str, int]]()
    for number, raw in _unrepeated(log.splitlines()):
        if len(seen) >= _FIRST and not any(mark in raw for mark in (_READY, *_SHUTDOWN)):
            rest.append((number, raw))
        elif not _take(reading, _clean(number, raw), seen):
            return reading
    for number, raw in rest:
        _take(reading, _clean(number, raw), seen)
    return reading


def _unrepeated(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Number the lines, without those that a crash loop says again and again."""
    repeated = set[str]()
    for number, raw in enumerate(lines, 1):
        if raw in repeated:
            continue
        if len(repeated) < 10 * _FIRST and not raw.startswith("INFO"):
            repeated.add(raw)
        yield number, raw


def _take(reading: Reading, line: Line, seen: set[tuple[str, int]]) -> bool:
    """Take a line in; False where the log is over: a healthy server is being stopped."""
    text = line.text
    if text.strip():
        reading.last = text
    if line.level in ("INFO", "DEBUG"):
        reading.ready = reading.ready or _READY in text
        if any(mark in text for mark in _SHUTDOWN) and reading.ready:
            return False  # what a server says while it is being stopped is no failure
        if not any(mark in text for mark in _TELLING_INFO):
            return True
    if _is_source(text):
        if len(reading.trace) < 200_000:
            reading.trace += text + "\n"
    elif not _NOISE.search(text) and (text, line.depth) not in seen:
        seen.add((text, line.depth))
        reading.lines.append(line)
    return True


def _clean(number: int, raw: str) -> Line:
    """Take the prefixes off a line."""
    text = _ANSI.sub("", raw) if "\x1b" in raw else raw
    if text.startswith(("INFO", "DEBUG")):
        return Line(text, 0, text[:5].rstrip(": "), number)
    text = text[wrapped.end() :] if (wrapped := _WRAPPING.match(text)) else text
    depth = 0
    if text.startswith("(") and (process := _PROCESS.match(text)):
        depth = _depth(process[1])
        text = text[process.end() :]
    level = ""
    if found := _LEVEL.match(text):
        level = found[1]
        text = text if level == "INFO" else text[found.end() :]
    return Line(text.rstrip(), depth, level, number)


def _depth(process: str) -> int:
    name = process.lower().replace("_", "")
    return next((depth for start, depth in _DEPTH.items() if name.startswith(start)), 0)


def _is_source(text: str) -> bool:
    """Whether it is a line of code in a traceback, which quotes messages that were not raised."""
    if not text.startswith("    ") and not text.startswith('  File "'):
        return False
    return _EXCEPTION.match(text) is None and "Value error," not in text
