"""A refusal, read strictly: what every error answer must be, on every endpoint.

Sources: OpenAI API reference (error object); vLLM, `entrypoints/serve/utils/error_response.py` and
`entrypoints/utils.py` (`sanitize_message`). FastAPI itself answers unknown routes and methods, and
bodies that are no text, with `{"detail": …}`; a wrong key is vLLM's `{"error": "Unauthorized"}`.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refusals import server_message
from pytest_vllm.client.shapes import NAME, Shape, conform, is_integer
from pytest_vllm.client.strict_json import parse_json

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer

__all__ = ["LONGEST", "check_words", "from_stream", "message_of", "read"]

#: Characters of an error message; vLLM's longest honest one names all kinds of chat messages.
LONGEST = 30_000

_SHAPE: dict[str, Shape] = {"message": NAME, "type": NAME}

#: `type` that vLLM gives with a status: of its own errors, and of pydantic's.
_TYPES = {400: ("BadRequestError", "Bad Request"), 404: ("NotFoundError",)}

#: What must not reach a client, and how to call it.
_INTERNALS = {
    "a traceback": re.compile(r"Traceback \(most recent call last\)|File \"[^\"]+\", line \d+"),
    "a path of the server's files": re.compile(
        r"(?<![\w/.:])/(?:home|root|usr|opt|app|tmp|var|workspace|vllm-workspace|mnt|data)/[\w.-]+/"
        r"|site-packages|\w+\.py:\d+|\w+\.py\b\", line"
    ),
    "an address in memory": re.compile(r"\b0x[0-9a-fA-F]{6,}"),
    "HTML": re.compile(r"<!doctype|<html|<body|<h1>", re.IGNORECASE),
    "the words of a Python error": re.compile(
        r"object has no attribute|object is not (?:iterable|subscriptable|callable)"
        r"|(?:missing|takes) \d+ (?:required )?positional argument|list index out of range"
        r"|unsupported operand type|^KeyError|Internal Server Error"
    ),
}


def read(answer: Answer, status: int, dialect: Dialect, *, plain: bool = False) -> str:
    """Read a refusal, and return its message.

    Args:
        answer: What came.
        status: What it must be.
        dialect: vLLM promises more than others.
        plain: Also accept `{"detail": …}` and an error that is a string: before the endpoint's
            own code was reached.

    Raises CheckFailed.
    """
    must(
        answer.status == status,
        f"{answer.request} must be refused with {status}",
        seen=Text(f"{answer.status}: {server_message(answer.text)}"),
    )
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    must(media_type == "application/json", "An error's content type must be JSON", seen=media_type)
    body = answer.json
    must(isinstance(body, dict), "An error must be a JSON object", seen=body)
    message = _plain_message(body) if plain else None
    if message is None:
        message = _read_envelope(body, status, dialect)
    check_words(message)
    return message


def _plain_message(body: dict[str, Any]) -> str | None:
    """FastAPI's sentence, or an error that is a sentence itself."""
    for name in ("detail", "error"):
        if isinstance(body.get(name), str) and body[name]:
            return str(body[name])
    return None


def _read_envelope(body: dict[str, Any], status: int, dialect: Dialect) -> str:
    must(
        isinstance(body.get("error"), dict),
        'An error must be {"error": {"message": …, "type": …, "param": …, "code": …}}',
        seen=body,
    )
    error = body["error"]
    conform(error, _SHAPE, "error")
    if dialect.is_vllm:
        must("param" in error, "error.param must be there, null or not", seen=error)
        must("code" in error, "error.code must be there", seen=error)
    code = error.get("code")
    if dialect.is_vllm or is_integer(code):
        must(code == status, "error.code must be the status", expected=status, seen=code)
    param = error.get("param")
    must(
        param is None or (isinstance(param, str) and param != ""),
        "error.param must name a field, or be null",
        seen=param,
    )
    if dialect.is_vllm:
        kinds = _TYPES.get(status, (error["type"],))
        must(
            error["type"] in kinds,
            f"error.type must be one of those for {status}",
            expected=kinds,
            seen=error["type"],
        )
    return str(error["message"])


def check_words(message: str) -> None:
    """A message is for people: of a bounded length, and no window into the server."""
    must(
        len(message) <= LONGEST,
        f"An error's message must have at most {LONGEST} characters",
        seen=Text(f"{len(message)} characters: {message[:100]}…"),
    )
    for name, pattern in _INTERNALS.items():
        found = pattern.search(message)
        must(
            found is None,
            f"An error's message must not show {name}",
            seen=message[max(0, found.start() - 40) : found.end() + 40] if found else "",
        )


def message_of(answer: Answer) -> str:
    """Return the message of an error that has been read."""
    return server_message(answer.text)


def from_stream(answer: Answer) -> Answer:
    """Take the refusal out of a stream that brought nothing else.

    vLLM begins the stream before its engine has looked at the request, so what the engine
    refuses comes as an event. That must be the first and only one, then `[DONE]`.

    Raises CheckFailed.
    """
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status != 200 or media_type != "text/event-stream":
        return answer
    events = [part.removeprefix("data: ") for part in answer.text.split("\n\n") if part]
    must(
        len(events) == 2 and events[1] == "[DONE]",
        "A stream that is refused must be one event with the error, and [DONE]",
        seen=[event[:80] for event in events[:4]],
    )
    try:
        error = parse_json(events[0])["error"]
        status = error["code"]
    except (ValueError, KeyError, TypeError):
        raise CheckFailed(
            'A stream that is refused must begin with {"error": {…}}', seen=Text(events[0])
        ) from None
    content = json.dumps({"error": error}).encode()
    headers = {**answer.headers, "content-type": "application/json"}
    return replace(answer, status=status, headers=headers, content=content)
