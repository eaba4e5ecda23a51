"""A log as its rules see it: clean lines of interest, where each stood, and how far the server came.

Built in one pass, so that a log of 50 MB takes about a second: nearly all of such a log is INFO,
which only a handful of rules care for.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

__all__ = ["Line", "Reading", "read"]

#: Colours; also where a copy lost the escape character itself.
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|^\[\d{1,2}(?:;\d+)*m|\[0m")
_TIME = r"\d{4}-\d\d-\d\d[T ][\d:.,]+(?:Z|[+-]\d\d:?\d\d)?\s+"
#: What compose, Kubernetes' log services, journald, clusters and torchrun put before a line.
_WRAPPING = re.compile(
    r"^(?:[ |]{2,}(?=\d{4}-))?(?:[\w.-]{1,80}\s+\| )?"
    rf"(?:{_TIME}|[A-Z][a-z]{{2}} +\d+ [\d:]{{8}} \S+ [\w.@/-]+\[\d+\]: )*"
    r"(?:[\w.-]+ >> )?(?:(?:stdout|stderr) [FP] )?(?:\[rank\d+\]:\s?)?"
)
#: `(Worker_TP1 pid=7) `, `(VllmWorker TP0 pid=7) `, `(EngineCore_DP0 pid=7) `; Ray's `(… pid=7, ip=…) `.
_PROCESS = re.compile(r"^\(([A-Za-z]\w*)[^()]*\bpid=\d+[^()]*\) ?")
#: `ERROR 11-22 08:56:16 [core.py:1]`, before 0.8 `engine.py:366]`; uvicorn's `ERROR:    `; Ray's repeats.
_LEVEL = re.compile(
    r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)(?:\s+\d\d-\d\d \d\d:\d\d(?::\d\d(?:\.\d+)?)?|:)?\s+"
    r"(?:\[[^\]]*\] ?|[\w./-]+:\d+\] ?)?"
)
#: glog's, of PyTorch and its parts: `[W1001 16:06:04.5 socket.cpp:752] `, `[rank2]:[E1001 …] `.
_GLOG = re.compile(r"^\[([WE])\d{0,4} ?[^\]]{0,80}\] ?")
_NCCL_INFO = re.compile(r"\bNCCL INFO\b")
_EXCEPTION = re.compile(
    r"^\s*(?:[A-Za-z_][\w.]*\.)?\w*(?:Error|Exception|Interrupt|Exit|OutOfResources|NotFound)\b\s*(?::|\(['\"]|$)"
)
_PY_WARNING = re.compile(r"^\S{1,300}:\d+: \w*Warning: ")

#: INFO lines that say something about a failure all the same.
_TELLING_INFO = (
    "Rate limited",
    "shm_broadcast",
    "No available shared memory",
    "Waiting for ",
    "KV cache memory: -",
)
_READY = "Application startup complete"
_SHUTDOWN = ("shutdown triggered", "Received SIGTERM", "INFO:     Shutting down")
#: The first line of a server: after the end of one, another start in the same log.
_BANNER = ("API server version", "  version 0.", "  version 1.")
#: The engine lives: it has no other way to these answers.
_ALIVE = re.compile(r'"(?:GET /health|POST /\S+) HTTP/[\d.]+" 200')

#: Noise of healthy servers that reads like a failure.
_NOISE = re.compile(
    r"ulimit -n|from LD_PRELOAD cannot be preloaded|leaked (?:shared_memory|semaphore|instances)"
    r"|leaked function|nanobind: |Ignored error while|DeprecationWarning|FutureWarning|UserWarning"
    r"|\[Gloo\] Rank \d+ is connected|process group has NOT been destroyed|destroy_process_group\(\) was not called"
)
_DEPTH = {
    "worker": 3,
    "vllmworker": 3,
    "rayworker": 3,
    "enginecore": 2,
    "engine": 2,
    "apiserver": 1,
}
#: What stands before the traceback that ended a process; errors before it were survived.
_FATAL = re.compile(
    r"WorkerProc failed to start|EngineCore failed to start|WorkerProc hit an exception"
    r"|EngineCore hit an exception|EngineCore encountered a fatal error|Exception in worker"
)

#: Of a log with more lines of interest than this, so many of the first and of the last are kept.
_FIRST, _LAST = 1500, 500
#: A line longer than this keeps its begin and its end: no sentence of an error is longer.
_LONGEST = 6000


@dataclass(frozen=True)
class Line:
    """A line without its prefixes.

    Attributes:
        text: What it says.
        depth: 3 for a worker, 2 for the engine, 1 for the API server, 0 if it does not say.
        level: `ERROR` and so on, or "".
        number: Counted from 1.
        frame: Of an exception: the place in the source that its traceback ends with.
    """

    text: str
    depth: int
    level: str
    number: int
    frame: str = ""

    @property
    def is_exception(self) -> bool:
        """Whether it is the last line of a traceback: `ValueError: …`."""
        return _EXCEPTION.match(self.text) is not None


@dataclass
class Reading:
    """What is known of a log."""

    lines: list[Line] = field(default_factory=list)
    ready_at: int = 0
    """The line from which on it was ready, or 0."""
    ready_traces: int = 0
    stopped: bool = False
    """Whether somebody stopped the server, which was ready."""
    alive_at: int = 0
    """The last line that only a living engine causes."""
    last: str = ""
    """The last line that says anything, whatever its level."""
    traces: list[str] = field(default_factory=list)
    """The source lines of tracebacks: which functions were under way."""
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=120))
    """The last lines as they are."""
    arguments: str = ""
    """What the server says of its own arguments."""
    first_info: str = ""
    last_info: str = ""

    @property
    def ready(self) -> bool:
        """Whether the server was ready once."""
        return self.ready_at > 0

    def serving(self) -> Reading:
        """The part since it was ready: what was said before was survived."""
        after = [line for line in self.lines if line.number > self.ready_at]
        return replace(self, lines=after, traces=self.traces[self.ready_traces :])

    @property
    def trace(self) -> str:
        """All source lines of tracebacks."""
        return "\n".join(self.traces)

    def end(self, size: int = 20_000) -> str:
        """The end of the log as it is."""
        return "\n".join(self.tail)[-size:]

    def roots(self) -> list[Line]:
        """The lines that may be the root cause, most likely first.

        The last line of a log is the outermost process complaining about the inner one. The
        cause is the first exception of the deepest process that comes after the words that it
        failed; where the processes do not say who they are, the first that is no echo of another.
        """
        fatal: dict[int, int] = {}
        for line in self.lines:
            if _FATAL.search(line.text):
                fatal.setdefault(line.depth, line.number)
        candidates = [line for line in self.lines if _may_be_root(line)]
        return sorted(
            candidates,
            key=lambda li: (-li.depth, li.number < fatal.get(li.depth, 0), li.number),
        )

    def around(self, line: Line, more: int = 3) -> str:
        """A line with where it was raised and what it goes on to say."""
        rows = [line.frame] if line.frame else []
        rows.append(line.text.strip())
        at = next((i for i, li in enumerate(self.lines) if li is line), len(self.lines))
        for number, after in enumerate(self.lines[at + 1 : at + 1 + more], line.number + 1):
            if after.number != number or after.depth != line.depth or _new_thought(after):
                break
            rows.append(after.text.strip())
        return "\n".join(row[:500] for row in rows)


_ECHO = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|See root cause above"
    r"|Engine process failed to start|EngineDeadError|please check the stack trace above"
    r"|errors\.pydantic\.dev|died unexpectedly|cancelled$|SystemExit|KeyboardInterrupt"
)


#: An echo that repeats the inner exception: `EngineDeadError: … OutOfMemoryError('CUDA out …`.
_QUOTED = re.compile(r"\w(?:Error|Exception)\(['\"]")


def _new_thought(line: Line) -> bool:
    """Whether a line does not go on with what an exception says."""
    return not line.text.strip() or line.text.startswith(("Traceback", "The above", "During ha"))


def _may_be_root(line: Line) -> bool:
    if line.level == "WARNING":
        return False
    telling = line.is_exception or line.text.lstrip().startswith(
        ("Value error,", "Input should", "error:")
    )
    telling = telling or ": error: " in line.text or line.text.startswith("docker: ")
    return telling and (not _ECHO.search(line.text) or _QUOTED.search(line.text) is not None)


def read(log: str | Iterable[str]) -> Reading:
    """Read a log once: its text, or its lines as they come."""
    lines = log.splitlines() if isinstance(log, str) else log
    reading, rest = Reading(), deque[tuple[int, str]](maxlen=_LAST)
    seen = set[tuple[str, int]]()
    for number, raw in _unrepeated(lines, reading.tail):
        if reading.stopped:
            if any(mark in raw for mark in _BANNER):
                reading, rest, seen = Reading(tail=reading.tail), deque(maxlen=_LAST), set()
            else:
                continue
        if _is_dull(raw):
            reading.first_info = reading.first_info or raw
            reading.last = reading.last_info = raw
            if '" 200' in raw and _ALIVE.search(raw):
                reading.alive_at = number
        elif len(seen) >= _FIRST and not any(mark in raw for mark in (_READY, *_SHUTDOWN)):
            rest.append((number, raw))
        else:
            _take(reading, _clean(number, raw), seen)
    for number, raw in () if reading.stopped else rest:
        _take(reading, _clean(number, raw), seen)
    return reading


#: Of INFO lines, these are looked at.
_MARKS = (
    *_TELLING_INFO,
    *_SHUTDOWN,
    *_BANNER,
    _READY,
    "non-default args",
    "args: Namespace(",
)


def _is_dull(raw: str) -> bool:
    """Whether it is INFO and nothing else, as nearly all of a long log; told without a regex."""
    at = raw.find("INFO", 0, 120)
    if at < 0 or raw[at + 4 : at + 5] not in (" ", ":") or "ERROR" in raw[:at]:
        return False
    if at and (raw[at - 1] != " " or "WARN" in raw[:at] or "Error" in raw[:at]):
        return False
    if '" 200' in raw:
        return True
    for mark in _MARKS:  # noqa: SIM110 - `any` takes twice as long
        if mark in raw:
            return False
    return True


def _unrepeated(lines: Iterable[str], tail: deque[str]) -> Iterator[tuple[int, str]]:
    """Number the lines, without those that a crash loop says again and again."""
    repeated = set[str]()
    for number, line in enumerate(lines, 1):
        raw = line.rstrip("\r\n")
        if len(raw) > _LONGEST:
            raw = f"{raw[: _LONGEST - 1500]} … {raw[-1400:]}"
        tail.append(raw)
        if raw in repeated:
            continue
        if len(repeated) < 10 * _FIRST and not raw.startswith("INFO"):
            repeated.add(raw)
        yield number, raw


def _take(reading: Reading, line: Line, seen: set[tuple[str, int]]) -> None:
    """Take a line in."""
    text = line.text
    if text.strip():
        reading.last = text
    if line.level in ("INFO", "DEBUG"):
        _take_info(reading, line)
        if not any(mark in text for mark in _TELLING_INFO):
            return
    if _is_source(text):
        if len(reading.traces) < 3000:
            reading.traces.append(text)
    elif not _NOISE.search(text) and (text, line.depth) not in seen:
        seen.add((text, line.depth))
        if reading.traces and line.is_exception:
            line = replace(line, frame=_last_frame(reading.traces))
        reading.lines.append(line)


def _take_info(reading: Reading, line: Line) -> None:
    text = line.text
    if not reading.arguments and ("non-default args" in text or "args: Namespace(" in text):
        reading.arguments = text
    reading.first_info = reading.first_info or text
    reading.last_info = text
    if _READY in text and not reading.ready:
        reading.ready_at, reading.ready_traces = line.number, len(reading.traces)
    elif reading.ready:
        # What a server says while it is being stopped is no failure.
        reading.stopped = any(mark in text for mark in _SHUTDOWN)


def _last_frame(traces: list[str]) -> str:
    return next((text.strip() for text in reversed(traces[-4:]) if 'File "' in text), "")


def _clean(number: int, raw: str) -> Line:
    """Take the prefixes off a line."""
    text = _ANSI.sub("", raw) if "\x1b" in raw or raw.startswith("[") or "[0m" in raw else raw
    if text.startswith(("INFO", "DEBUG")):
        return Line(text, 0, text[:5].rstrip(": "), number)
    text = text[wrapped.end() :] if (wrapped := _WRAPPING.match(text)) else text
    depth = 0
    if text.startswith("(") and (process := _PROCESS.match(text)):
        depth = _depth(process[1])
        text = _ANSI.sub("", text[process.end() :])
    text, level = _leveled(text)
    if wrapped and wrapped.end() and text.endswith("|"):
        text = text.rstrip("| ")
    return Line(text.rstrip(), depth, level, number)


def _leveled(text: str) -> tuple[str, str]:
    """A line without its level, and the level."""
    if found := _LEVEL.match(text):
        # Of INFO, the place in the source stays, for those that look for it.
        return (text if found[1] == "INFO" else text[found.end() :]), found[1]
    if text.startswith("[") and (glog := _GLOG.match(text)):
        return text[glog.end() :], {"W": "WARNING", "E": "ERROR"}[glog[1]]
    if _NCCL_INFO.search(text):
        return text, "INFO"
    return text, "WARNING" if _PY_WARNING.match(text) else ""


def _depth(process: str) -> int:
    name = process.lower().replace("_", "")
    return next((depth for start, depth in _DEPTH.items() if name.startswith(start)), 0)


def _is_source(text: str) -> bool:
    """Whether it is a line of code in a traceback, which quotes messages that were not raised."""
    if not text.startswith("    ") and not text.startswith('  File "'):
        return False
    return _EXCEPTION.match(text) is None and "Value error," not in text
