"""Rules for streams, beyond the framing. Each takes a `Stream`, is pure and raises CheckFailed.

Never a rule: one token per chunk (a busy server sends several), or a last chunk without text
(vLLM puts `finish_reason` and the last piece into one chunk).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.checks import check_model, check_text, check_usage, message_text
from pytest_vllm.client.exchange import Stream
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.shapes import Shape, conform

__all__ = [
    "CHAT_STREAM",
    "COMPLETION_STREAM",
    "StreamCheck",
    "ends_with_usage",
    "equals_unstreamed",
    "stream_text",
]

StreamCheck = Callable[[Stream], None]


def chunks_have_shape(shape: Shape) -> StreamCheck:
    """Each chunk has all its fields."""

    def check(stream: Stream) -> None:
        for position, chunk in enumerate(stream.chunks):
            conform(chunk, shape, f"chunk[{position}]")

    return check


def is_one_answer(stream: Stream) -> None:
    """All chunks carry the same id and model, and the model is the one that was asked for."""
    if not stream.chunks:
        raise CheckFailed("A stream must have chunks before `data: [DONE]`")
    for name in ("id", "model"):
        values = list(dict.fromkeys(chunk[name] for chunk in stream.chunks))
        if len(values) > 1:
            raise CheckFailed(f"All chunks must have the same {name}", seen=values[:3])
    check_model(stream.chunks[0]["model"], stream.request.body or {})


def has_one_choice(stream: Stream) -> None:
    """One prompt, `n` left at 1: all pieces belong to index 0."""
    indices = sorted({choice["index"] for choice in stream.choices})
    if indices != [0]:
        raise CheckFailed("All chunks must belong to choice 0", expected=[0], seen=indices)


def finishes_once(stream: Stream) -> None:
    """Exactly one `finish_reason`, and no text after it."""
    reasons = [c["finish_reason"] for c in stream.choices if c["finish_reason"] is not None]
    if len(reasons) != 1:
        raise CheckFailed("A choice must have exactly one finish_reason", seen=reasons)
    after = False
    for choice in stream.choices:
        if after and _piece(choice):
            raise CheckFailed("No text must follow the finish_reason", seen=_piece(choice))
        after = after or choice["finish_reason"] is not None


def begins_with_role(stream: Stream) -> None:
    """The first delta of a chat says who speaks."""
    first = stream.choices[0]["delta"]
    if first.get("role") != "assistant":
        raise CheckFailed('The first delta must have the role "assistant"', seen=first)


def has_text(stream: Stream) -> None:
    """The model said something."""
    check_text(stream_text(stream))


def ends_with_usage(stream: Stream) -> None:
    """With `include_usage`: usage once, in a last chunk that has no choices."""
    last = stream.chunks[-1]
    where = [position for position, chunk in enumerate(stream.chunks) if chunk.get("usage")]
    if where != [len(stream.chunks) - 1] or last["choices"]:
        raise CheckFailed(
            "With include_usage, only the last chunk must have usage, and it must have no choices",
            seen=last,
        )
    conform(last["usage"], shapes.USAGE, "usage")
    finish_reason = next(c["finish_reason"] for c in stream.choices if c["finish_reason"])
    check_usage(last["usage"], stream.request.body or {}, finish_reason)


def equals_unstreamed(unstreamed: Callable[[], str]) -> StreamCheck:
    """The pieces add up to the text of the same request without `stream`.

    Only where the first comparison fails it is asked once more: under load, a server may batch
    two greedy requests differently and round a near-tie the other way. Text that the stream
    itself loses or doubles is wrong both times.
    """

    def check(stream: Stream) -> None:
        seen = stream_text(stream)
        for _ in range(2):
            expected = unstreamed()
            if seen == expected:
                return
        raise CheckFailed(
            "The streamed text must equal the unstreamed text", expected=expected, seen=seen
        )

    return check


def stream_text(stream: Stream) -> str:
    """Put the pieces together."""
    return "".join(_piece(choice) for choice in stream.choices)


def _piece(choice: Mapping[str, Any]) -> str:
    return message_text(choice["delta"]) if "delta" in choice else str(choice["text"])


COMPLETION_STREAM: tuple[StreamCheck, ...] = (
    chunks_have_shape(shapes.COMPLETION_CHUNK),
    is_one_answer,
    has_one_choice,
    finishes_once,
    has_text,
)

CHAT_STREAM: tuple[StreamCheck, ...] = (
    chunks_have_shape(shapes.CHAT_COMPLETION_CHUNK),
    is_one_answer,
    has_one_choice,
    finishes_once,
    begins_with_role,
    has_text,
)
