"""Long answers: what tests of time, of slots and of cancellation need."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.exchange import Request
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.client.api import Api

__all__ = ["begin", "context_length", "long_completion", "read_times"]

#: Enough at any speed, and not minutes on a slow machine.
_LONGEST = 2000


def context_length(api: Api) -> int:
    """The longest context of the model, by its card; a careful guess where it does not say."""

    def find() -> int:
        cards = api.send(Request("GET", "/v1/models")).json.get("data", [])
        said = [card.get("max_model_len") for card in cards if card.get("id") == api.model]
        return said[0] if said and isinstance(said[0], int) else 512

    return api.once("context length", find)


def long_completion(api: Api, tokens: int = _LONGEST, **more: Any) -> Request:
    """A completion of exactly so many tokens, or of as many as the context holds."""
    fits = min(tokens, context_length(api) - 64)
    return completion(api.model, max_tokens=fits, ignore_eos=True, **more)


@contextlib.contextmanager
def begin(client: httpx.Client, request: Request) -> Iterator[Iterator[bytes]]:
    """Begin to read an answer as it comes over the wire; whoever leaves hangs up."""
    with client.stream(request.method, request.path, json=request.body) as response:
        yield response.iter_raw()


def read_times(client: httpx.Client, request: Request) -> tuple[float, list[float]]:
    """When an answer's head came, and each part of its body: seconds since it was sent."""
    began = time.monotonic()
    with client.stream(request.method, request.path, json=request.body) as response:
        head = time.monotonic() - began
        return head, [time.monotonic() - began for part in response.iter_raw() if part]
