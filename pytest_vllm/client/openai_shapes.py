"""The shapes of the OpenAI API reference, as vLLM and its peers fill them.

Left out on purpose: `id` prefixes (vLLM's `cmpl-` is a habit, no promise), `system_fingerprint`
and `logprobs`, which a server may leave out.
"""

from __future__ import annotations

from pytest_vllm.client.shapes import (
    COUNT,
    NAME,
    NUMBER,
    STRING,
    TIMESTAMP,
    Shape,
    exactly,
    nullable,
    one_of,
    optional,
)

_FINISHED = one_of("stop", "length", "content_filter")
_CHAT_FINISHED = one_of("stop", "length", "content_filter", "tool_calls", "function_call")
_HEAD: dict[str, Shape] = {"id": NAME, "created": TIMESTAMP, "model": NAME}

USAGE: dict[str, Shape] = {
    "prompt_tokens": COUNT,
    "completion_tokens": COUNT,
    "total_tokens": COUNT,
}

COMPLETION: dict[str, Shape] = {
    **_HEAD,
    "object": exactly("text_completion"),
    "choices": [{"index": COUNT, "text": STRING, "finish_reason": _FINISHED}],
    "usage": USAGE,
}

COMPLETION_CHUNK: dict[str, Shape] = {
    **_HEAD,
    "object": exactly("text_completion"),
    "choices": [{"index": COUNT, "text": STRING, "finish_reason": nullable(_FINISHED)}],
}

#: What `logprobs` adds to a choice of a completion; `top_logprobs` maps a token's text.
COMPLETION_LOGPROBS: dict[str, Shape] = {
    "tokens": [STRING],
    "token_logprobs": [NUMBER],
    "top_logprobs": [{}],
}

CHAT_COMPLETION: dict[str, Shape] = {
    **_HEAD,
    "object": exactly("chat.completion"),
    "choices": [
        {
            "index": COUNT,
            "message": {"role": exactly("assistant"), "content": nullable(STRING)},
            "finish_reason": _CHAT_FINISHED,
        }
    ],
    "usage": USAGE,
}

CHAT_COMPLETION_CHUNK: dict[str, Shape] = {
    **_HEAD,
    "object": exactly("chat.completion.chunk"),
    "choices": [
        {
            "index": COUNT,
            "delta": {"role": optional(exactly("assistant")), "content": optional(STRING)},
            "finish_reason": nullable(_CHAT_FINISHED),
        }
    ],
}

MODEL_LIST: dict[str, Shape] = {
    "object": exactly("list"),
    "data": [{"id": NAME, "object": exactly("model"), "created": TIMESTAMP, "owned_by": STRING}],
}

VERSION: dict[str, Shape] = {"version": NAME}
