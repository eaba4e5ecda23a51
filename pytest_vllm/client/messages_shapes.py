"""The shapes of `/v1/messages` and `/v1/messages/count_tokens`.

Source: Anthropic API reference (messages). `stop_sequence` may be missing where it is null:
vLLM leaves nulls out of unstreamed answers.
"""

from __future__ import annotations

from pytest_vllm.client.shapes import (
    COUNT,
    NAME,
    STRING,
    Kind,
    Shape,
    exactly,
    nullable,
    one_of,
    optional,
)

__all__ = ["BLOCKS", "COUNTED", "DELTAS", "ERROR", "MESSAGE", "STARTED", "USAGE"]

OBJECT = Kind("an object", lambda seen: isinstance(seen, dict))
_NULL = Kind("null", lambda seen: seen is None)

USAGE: dict[str, Shape] = {
    "input_tokens": COUNT,
    "output_tokens": COUNT,
    "cache_read_input_tokens": optional(COUNT),
    "cache_creation_input_tokens": optional(COUNT),
}

_HEAD: dict[str, Shape] = {
    "id": NAME,
    "type": exactly("message"),
    "role": exactly("assistant"),
    "model": NAME,
    "usage": USAGE,
}

MESSAGE: dict[str, Shape] = {
    **_HEAD,
    "content": [{"type": one_of("text", "tool_use", "thinking", "redacted_thinking")}],
    "stop_reason": one_of("end_turn", "max_tokens", "stop_sequence", "tool_use"),
    "stop_sequence": optional(STRING),
}

#: The message of `message_start`: nothing has been said yet.
STARTED: dict[str, Shape] = {
    **_HEAD,
    "content": Kind("an empty list", lambda seen: seen == []),
    "stop_reason": nullable(_NULL),
    "stop_sequence": nullable(_NULL),
}

#: By the type of a content block.
BLOCKS: dict[str, dict[str, Shape]] = {
    "text": {"text": STRING},
    "tool_use": {"id": NAME, "name": NAME, "input": OBJECT},
    "thinking": {"thinking": STRING, "signature": optional(STRING)},
}

#: By the type of a delta: the type of its block, and the field that it adds to.
DELTAS: dict[str, tuple[str, str]] = {
    "text_delta": ("text", "text"),
    "input_json_delta": ("tool_use", "partial_json"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
}

COUNTED: dict[str, Shape] = {"input_tokens": COUNT}

ERROR: dict[str, Shape] = {
    "type": exactly("error"),
    "error": {"type": NAME, "message": NAME},
}
