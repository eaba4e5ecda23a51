"""A request as a line for the shell, without the key."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Request

__all__ = ["curl_line"]

_SECRET = frozenset({"authorization", "x-api-key"})
_OUR_KEY_HEADER = '"Authorization: Bearer $VLLM_API_KEY"'
_KEY_HEADER = '"Authorization: $WRONG_KEY"'
_PASSWORD = re.compile(r"(?<=://)[^/@]+@")


def curl_line(request: Request, url: str, *, with_key: bool = False) -> str:
    """Return the command that sends this request again.

    The key stays the variable that it came from, in double quotes, so that the shell fills it
    in; a password in the address is left out. Streams are shown as they come (`-N`).
    """
    words = ["curl", "-sSN" if request.get("stream") else "-sS"]
    data = _data(request)
    if request.method != ("GET" if data is None else "POST"):
        words += ["-X", request.method]
    words.append(shlex.quote(_PASSWORD.sub("", url)))
    if with_key:
        words += ["-H", _KEY_HEADER if _sends_own_key(request) else _OUR_KEY_HEADER]
    if data is not None and not any(name.lower() == "content-type" for name in request.headers):
        words += ["-H", "'Content-Type: application/json'"]
    for name, value in request.headers.items():
        if name.lower() not in _SECRET:
            words += ["-H", shlex.quote(f"{name}: {value}")]
    if data is not None:
        # Not `-d`: that would read a body that begins with @ from a file, and drop newlines.
        words += ["--data-raw", shlex.quote(data)]
    return " ".join(words)


def _sends_own_key(request: Request) -> bool:
    """Whether the test sends a key of its own making, which is no secret but no use either."""
    return any(name.lower() in _SECRET for name in request.headers)


def _data(request: Request) -> str | None:
    if request.content is not None:
        return request.content.decode(errors="backslashreplace")
    return None if request.body is None else json.dumps(request.body, ensure_ascii=False)
