"""Errors in the log of a vLLM server that should have had none."""

from __future__ import annotations

import re

__all__ = ["errors_in"]

#: From here on the server serves; a start has its own judges.
_READY = "Application startup complete"

_BAD = re.compile(r"\bERROR\b|\bCRITICAL\b|^Traceback ")

#: Where a line of vLLM's log comes from: `(APIServer pid=1) ERROR 11-24 15:47:06 [x.py:75]`.
_SOURCE = re.compile(r"^(.*?\[\w+\.py:\d+\])")

#: The API server logs refusals of wrong requests as errors, with their traceback, and what
#: breaks a request the tests see themselves. The engine and its workers have no reason to.
_INNER = re.compile(r"^\((?:EngineCore|\w*Worker)")


def errors_in(log: str) -> list[str]:
    """The last line of each error of the engine and its workers since the server was ready."""
    blocks: list[list[str]] = []
    source = None
    for line in log.rpartition(_READY)[2].splitlines():
        found = _SOURCE.match(line)
        if not _BAD.search(line):
            if found:
                source = None
            continue
        if found is None or found[1] != source:
            blocks.append([])
        source = found[1] if found else None
        blocks[-1].append(line.strip())
    return [block[-1] for block in blocks if _INNER.match(block[0])]
