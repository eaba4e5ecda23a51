"""The requests that the suite sends, as data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_vllm.client.exchange import Request

__all__ = ["chat", "completion", "streamed"]

#: Any model has something to say after it. Shorter than one block of a KV cache (16 tokens), so
#: asking again never takes another path through a prefix cache.
PROMPT = "The capital of France is"

#: Greedy and short: the same request has the same answer, and costs next to nothing.
_SHORT: dict[str, Any] = {"max_tokens": 16, "temperature": 0, "seed": 0}


def completion(model: str, prompt: str | Sequence[int] = PROMPT, **more: Any) -> Request:
    """A text completion."""
    return Request("POST", "/v1/completions", {"model": model, "prompt": prompt, **_SHORT, **more})


def chat(model: str, content: str = "What is the capital of France?", **more: Any) -> Request:
    """A chat of one message."""
    messages = [{"role": "user", "content": content}]
    body = {"model": model, "messages": messages, **_SHORT, **more}
    return Request("POST", "/v1/chat/completions", body)


def streamed(request: Request, **stream_options: Any) -> Request:
    """The same request, answered as a stream."""
    more = {"stream_options": stream_options} if stream_options else {}
    return Request(request.method, request.path, {**(request.body or {}), "stream": True, **more})
