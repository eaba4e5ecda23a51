"""JSON as every client can read it."""

from __future__ import annotations

import json
from typing import Any, NoReturn

__all__ = ["parse_json"]


def parse_json(text: str) -> Any:
    """Parse JSON, without Python's own extension: NaN and Infinity break every other client.

    Raises ValueError, also for nesting that no parser takes.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
