"""Parsers of option values: text in, value out, ValueError with the reason otherwise.

A reason reads on from the value: `--vllm-gpus: 'two' is not a whole number of at least 1`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Parser = Callable[[str], Any]


def one_of(*choices: str) -> Parser:
    """Parse one of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return text

    return parse


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("is not a whole number of at least 1")
    return int(text)


def fraction(text: str) -> float:
    """Parse a share of the GPU memory: above 0, at most 1."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise ValueError("is not a number above 0 and at most 1, for example 0.85")
    return value


def duration(text: str) -> float:
    """Parse a time: seconds, or a number with s, m or h (`90`, `90s`, `10m`, `1.5h`)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or not float(match[1]):
        raise ValueError("is not a time such as 90, 90s, 10m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def flag(text: str) -> bool:
    """Parse a yes or no."""
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"0": False, "false": False, "no": False, "off": False}
    if text.strip().lower() not in words:
        raise ValueError("is neither true nor false")
    return words[text.strip().lower()]


def nonempty(text: str) -> str:
    """Parse any text but an empty one."""
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()


def url(text: str) -> str:
    """Parse the address of a server; a trailing `/` or `/v1` is taken off."""
    cleaned = re.sub(r"(/v1)?/*$", "", text.strip())
    if not re.match(r"https?://(\[[\da-fA-F:]+\]|[^/\s@:]+)(:\d{1,5})?(/\S*)?$", cleaned):
        raise ValueError(
            "is not an address such as http://127.0.0.1:8000"
            + (" (give the key in VLLM_API_KEY, never in the address)" if "@" in text else "")
        )
    return cleaned


def variable(text: str) -> tuple[str, str | None]:
    """Parse `NAME=VALUE`, or `NAME` alone to hand on our own variable of that name."""
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("is not NAME or NAME=VALUE")
    return name, value if equals else None


#: `vllm serve` arguments that the launcher must choose itself.
_OURS = ("--host", "--port", "--uds")


def argument(text: str) -> str:
    """Parse one `vllm serve` argument, handed on as it is."""
    name = re.split(r"[=\s]", text, maxsplit=1)[0].replace("_", "-")
    if name == "--api-key":
        raise ValueError("would show the key to everybody: set VLLM_API_KEY in the environment")
    if name == "--hf-token":
        raise ValueError("would show the token to everybody: set HF_TOKEN in the environment")
    if name in _OURS:
        raise ValueError(f"is not yours to set: {name} is chosen by the launcher")
    if re.match(r"--[\w.-]+\s", text):
        raise ValueError(f"has a space in it: write it as --vllm-arg={text.replace(' ', '=', 1)}")
    return nonempty(text)
