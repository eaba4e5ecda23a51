"""The shapes of `/v1/responses`: the object, its items and its usage.

Source: OpenAI API reference (responses). `error` and `text` are left out on purpose: vLLM up to
0.32 has no `error` and a null `text`; tests of their own say so.
"""

from __future__ import annotations

from pytest_vllm.client.shapes import (
    COUNT,
    NAME,
    NUMBER,
    STRING,
    TIMESTAMP,
    Kind,
    Shape,
    exactly,
    nullable,
    one_of,
    optional,
)

__all__ = ["EVENT", "INDEXED", "LOGPROB", "OUTPUTS", "PARTS", "RESPONSE", "USAGE"]

BOOLEAN = Kind("true or false", lambda seen: isinstance(seen, bool))
THERE = Kind("there", lambda seen: seen is not None)
_OBJECT = Kind("an object", lambda seen: isinstance(seen, dict))
_ANY = Kind("there, and may be null", lambda seen: True)
_PROGRESS = one_of("in_progress", "completed", "incomplete")

USAGE: dict[str, Shape] = {
    "input_tokens": COUNT,
    "input_tokens_details": {"cached_tokens": COUNT},
    "output_tokens": COUNT,
    "output_tokens_details": {"reasoning_tokens": COUNT},
    "total_tokens": COUNT,
}

#: The fields that the reference calls required; `usage` is added once an answer is done.
RESPONSE: dict[str, Shape] = {
    "id": NAME,
    "object": exactly("response"),
    "created_at": TIMESTAMP,
    "model": NAME,
    "status": one_of("in_progress", "queued", "completed", "incomplete", "failed", "cancelled"),
    "incomplete_details": nullable(_OBJECT),
    "instructions": nullable(STRING),
    "metadata": nullable(_OBJECT),
    "output": [{"type": NAME}],
    "parallel_tool_calls": BOOLEAN,
    "temperature": nullable(NUMBER),
    "tool_choice": THERE,
    "tools": [{"type": NAME}],
    "top_p": nullable(NUMBER),
    "truncation": optional(one_of("auto", "disabled")),
    "max_output_tokens": optional(COUNT),
    "previous_response_id": optional(NAME),
    "background": optional(BOOLEAN),
    "service_tier": optional(NAME),
    "user": optional(STRING),
    "text": optional(_OBJECT),
    "error": optional(_OBJECT),
}

#: By the type of an output item. Items of other types belong to tools of the server's own.
OUTPUTS: dict[str, dict[str, Shape]] = {
    "message": {
        "id": NAME,
        "role": exactly("assistant"),
        "status": _PROGRESS,
        "content": [{"type": NAME}],
    },
    "function_call": {
        "id": NAME,
        "call_id": NAME,
        "name": NAME,
        "arguments": STRING,
        "status": optional(_PROGRESS),
    },
    "reasoning": {"id": NAME, "summary": [{"text": STRING}]},
}

#: By the type of a part of a message.
PARTS: dict[str, dict[str, Shape]] = {
    "output_text": {"text": STRING, "annotations": [{"type": NAME}]},
    "refusal": {"refusal": STRING},
    "reasoning_text": {"text": STRING},
    "summary_text": {"text": STRING},
}

LOGPROB: dict[str, Shape] = {
    "token": STRING,
    "logprob": NUMBER,
    "bytes": [COUNT],
    "top_logprobs": [{"token": STRING, "logprob": NUMBER, "bytes": [COUNT]}],
}

EVENT: dict[str, Shape] = {"type": NAME, "sequence_number": COUNT}
INDEXED: dict[str, Shape] = {"output_index": COUNT, "item_id": NAME}
