"""A request that must be refused, and a server that must be none the worse for it.

`refuse` reads the refusal strictly; `still_well` then asks for something good, which must be
answered as it was before: nothing of a bad request may stay behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vllm.client import ask as asking
from pytest_vllm.client.checks_together import alike
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.readers import errors
from pytest_vllm.client.readers.common import must

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

__all__ = ["refuse", "still_well"]

#: Seconds for a refusal: nothing has to be computed for it.
PROMPT_S = 60.0


def refuse(
    api: Api,
    request: Request,
    *,
    status: int = 400,
    param: str | None = None,
    says: Sequence[str] = (),
    plain: bool = False,
    late: bool = False,
) -> Answer:
    """Send a bad request and read its refusal.

    Args:
        api: The way to the server.
        request: Streamed or not; a stream must be refused by its status, too.
        status: What it must be refused with.
        param: The field that vLLM's `error.param` must name (`body.` before it, and what comes
            after it, do not matter). Other servers need not.
        says: What the message must contain.
        plain: As for `errors.read`.
        late: A stream may also be refused by its first event (see `errors.from_stream`).

    Raises:
        CheckFailed: It was not refused, or not as it should be.
    """
    __tracebackhide__ = True
    answer = asking.send(api.client, request, deadline_s=PROMPT_S)

    def check(whole: Answer) -> None:
        seen = errors.from_stream(whole) if late else whole
        message = errors.read(seen, status, api.dialect, plain=plain)
        for words in says:
            must(words in message, f"The error's message must say {words!r}", seen=message)
        if param is not None and api.dialect.is_vllm and not plain:
            _check_param(seen.json["error"]["param"], param)

    return answer.check(check)


def _check_param(seen: str | None, field: str) -> None:
    named = "" if seen is None else seen.removeprefix("body.").partition(".")[0]
    must(
        named == field,
        "error.param must name the field that is wrong",
        expected=field,
        seen=seen,
    )


def still_well(api: Api) -> None:
    """Ask for health and something good; the answer must be what it was at first.

    Raises CheckFailed.
    """
    __tracebackhide__ = True
    health = asking.send(api.client, Request("GET", "/health"))
    health.check(_is_healthy)
    good = _good(api)
    if good is None:
        return
    before = api.once("a good answer", lambda: api.ask(good))
    alike(
        lambda: (before, api.ask(good)),
        "After a refusal, a good request must be answered as before",
    )


def _is_healthy(answer: Answer) -> None:
    must(answer.status == 200, "The server must be healthy after a refusal", seen=answer.status)


def _good(api: Api) -> Request | None:
    """The least that the server must be able to do."""
    if api.has("generation"):
        body = {"model": api.model, "prompt": "A good request", "max_tokens": 2, "temperature": 0}
        return Request("POST", "/v1/completions", body)
    if api.has("embeddings"):
        return Request("POST", "/v1/embeddings", {"model": api.model, "input": "A good request"})
    return None
