"""A request as a line for the shell, without the key."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

__all__ = ["curl_line"]

_PASSWORD = re.compile(r"(?<=://)[^/@]+@")


def curl_line(
    method: str, url: str, body: Mapping[str, Any] | None = None, *, with_key: bool = False
) -> str:
    """Return the command that sends this request again.

    The key stays the variable that it came from, in double quotes, so that the shell fills it
    in; a password in the address is left out. Streams are shown as they come (`-N`).
    """
    words = ["curl", "-sSN" if body and body.get("stream") else "-sS"]
    if method != ("GET" if body is None else "POST"):
        words += ["-X", method]
    words.append(shlex.quote(_PASSWORD.sub("", url)))
    if with_key:
        words += ["-H", '"Authorization: Bearer $VLLM_API_KEY"']
    if body is not None:
        words += ["-H", "'Content-Type: application/json'"]
        # Not `-d`: that would read a body that begins with @ from a file, and drop newlines.
        words += ["--data-raw", shlex.quote(json.dumps(body, ensure_ascii=False))]
    return " ".join(words)
