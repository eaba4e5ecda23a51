"""Errors in the log of a vLLM server that should have had none."""

from __future__ import annotations

import re

__all__ = ["errors_in"]

#: From here on the server serves; a start has its own judges.
_READY = "Application startup complete"

_BAD = re.compile(r"\bERROR\b|\bCRITICAL\b|^Traceback ")

#: Where a line of vLLM's log comes from: `(APIServer pid=1) ERROR 11-24 15:47:06 [x.py:75]`.
_SOURCE = re.compile(r"^(.*?\[\w+\.py:\d+\])")

#: vLLM logs some refusals of a wrong request as errors, with their traceback.
_REFUSALS = re.compile(r"VLLMValidationError|HTTPException|RequestValidationError")


def errors_in(log: str) -> list[str]:
    """The last line of each error since the server was ready; refusals are none."""
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
    return [block[-1] for block in blocks if not any(_REFUSALS.search(line) for line in block)]
