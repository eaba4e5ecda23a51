"""What a refusal must look like: its status, and the envelope of its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vllm.client import messages_shapes
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.refusals import server_message
from pytest_vllm.client.shapes import NAME, conform

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

__all__ = ["context_of", "in_anthropic_envelope", "refused"]


def refused(*statuses: int) -> Callable[[Answer], None]:
    """Refused with one of these statuses, as JSON with an error that says what and why.

    `code`, where there is one, is the status (vLLM); it must not be a 200 with an error inside.
    """

    def check(answer: Answer) -> None:
        if answer.status not in statuses:
            words = " or ".join(map(str, statuses))
            said = f"{answer.status}: {server_message(answer.text)[:100]}"
            raise CheckFailed(f"This must be refused with {words}", seen=Text(said))
        body: Any = answer.json
        conform(body, {"error": {"message": NAME, "type": NAME}})
        code = body["error"].get("code")
        if isinstance(code, int) and code != answer.status:
            rule = "error.code must be the HTTP status"
            raise CheckFailed(rule, expected=answer.status, seen=code)
        if "Traceback" in answer.text:
            raise CheckFailed("An error must not show a traceback", seen=answer.text)

    return check


def in_anthropic_envelope(answer: Answer) -> None:
    """`{"type": "error", "error": {"type": …, "message": …}}`. Source: Anthropic API reference."""
    conform(answer.json, messages_shapes.ERROR)


def context_of(api: Api) -> int:
    """How many tokens a prompt can have at most, so that as many words are too many."""

    def find() -> int:
        listed = api.send(Request("GET", "/v1/models")).json["data"]
        found = next((m.get("max_model_len") for m in listed if m["id"] == api.model), None)
        return found or 0

    tokens = api.once("max_model_len", find)
    if not 0 < tokens <= 200_000:
        api.unsupported("/v1/models does not say max_model_len, or it is too long to exceed")
    return tokens
