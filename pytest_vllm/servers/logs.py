"""Reading a server's log file while somebody else writes it."""

from __future__ import annotations

import re
import time
from pathlib import Path


def log_name(label: str) -> str:
    """A file name for a server's log: the model's id with everything unusual replaced."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", label).strip("_") + ".log"


def unused(path: Path) -> Path:
    """The path, or with -2, -3 … in its name where a file is there already."""
    candidate, number = path, 2
    while candidate.exists():
        candidate = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return candidate


def tail(path: Path | None, size: int = 400_000) -> str:
    """The end of a log, at most `size` bytes; "" where there is none."""
    return slice_from(path, max(0, end_of(path) - size))


def end_of(path: Path | None) -> int:
    """The length of a log now, in bytes; the place to read on from later."""
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0


def slice_from(path: Path | None, offset: int, size: int = 400_000) -> str:
    """What was written since `offset`, at most `size` bytes of it."""
    return _read(path, offset, size).decode("utf-8", "replace")


def _read(path: Path | None, offset: int, size: int) -> bytes:
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError:
        return b""


def settle(path: Path | None, quiet_s: float = 0.05, limit_s: float = 0.5) -> None:
    """Wait until a log is quiet: what a container says reaches its file a moment later."""
    deadline, seen = time.monotonic() + limit_s, -1
    while (size := end_of(path)) != seen and time.monotonic() < deadline:
        seen = size
        time.sleep(quiet_s)


class LogFollower:
    """Whole new lines of a growing log, each once; empty ones are left out.

    A carriage return ends a line too: a progress bar sends nothing else for minutes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        """The lines completed since the last call."""
        data = _read(self._path, self._offset, 1_000_000)
        self._offset += len(data)
        *lines, self._rest = re.split(rb"[\r\n]", self._rest + data)
        return [line.decode("utf-8", "replace") for line in lines if line]
