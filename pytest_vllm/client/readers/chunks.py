"""What all chunks of one OpenAI stream have in common, and their usage. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import check_model, check_total, must
from pytest_vllm.client.shapes import Shape, conform

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Stream

__all__ = ["by_index", "check_chunks", "usage_of"]


def check_chunks(stream: Stream, shape: Shape) -> None:
    """Every chunk has the shape, and all are parts of one answer to this request."""
    must(stream.chunks, "A stream must have chunks", seen=[])
    for position, chunk in enumerate(stream.chunks):
        conform(chunk, shape, f"chunk {position}")
        check_model(chunk["model"], stream.request)
    for name in ("id", "created", "model", "object"):
        values = {chunk[name] for chunk in stream.chunks}
        must(len(values) == 1, f"All chunks must have the same {name}", seen=sorted(values))


def by_index(stream: Stream) -> dict[int, list[dict[str, Any]]]:
    """The parts of each choice in the order in which they came.

    Raises:
        CheckFailed: A choice that does not finish exactly once, or goes on after that.
    """
    parts: dict[int, list[dict[str, Any]]] = {}
    for choice in stream.choices:
        parts.setdefault(choice["index"], []).append(choice)
    for index, choices in sorted(parts.items()):
        reasons = [c["finish_reason"] for c in choices if c["finish_reason"] is not None]
        must(
            len(reasons) == 1,
            "Each choice must end with exactly one finish_reason",
            expected=f"one for index {index}",
            seen=reasons,
        )
        must(
            choices[-1]["finish_reason"] is not None,
            "No text must follow the finish_reason",
            seen=choices[-1],
        )
    return parts


def usage_of(stream: Stream) -> Mapping[str, Any] | None:
    """The usage at the end, after checking that it stands where `stream_options` want it.

    Raises CheckFailed. Source: OpenAI API reference, `stream_options.include_usage`;
    `continuous_usage_stats` is vLLM's.
    """
    options = stream.request.get("stream_options", {})
    *before, last = stream.chunks
    if not options.get("include_usage"):
        early = [chunk["usage"] for chunk in stream.chunks if chunk.get("usage")]
        must(not early, "Without include_usage, no chunk must have usage", seen=early)
        return None
    where = [position for position, chunk in enumerate(before) if chunk.get("usage")]
    continuous = bool(options.get("continuous_usage_stats"))
    if last["choices"] or not last.get("usage") or (where and not continuous):
        raise CheckFailed(
            "With include_usage, only the last chunk must have usage, and it must have no choices",
            seen=last,
        )
    must(
        all(chunk["choices"] for chunk in before),
        "Only the last chunk, with the usage, must have no choices",
        seen=before,
    )
    conform(last["usage"], shapes.USAGE, "usage")
    check_total(last["usage"])
    if continuous:
        _check_continuous(stream)
    return dict(last["usage"])


def _check_continuous(stream: Stream) -> None:
    for position, chunk in enumerate(stream.chunks):
        must(
            chunk.get("usage"),
            "With continuous_usage_stats, every chunk must have usage",
            seen=f"none in chunk {position}",
        )
        conform(chunk["usage"], shapes.USAGE, f"chunk {position}.usage")
        check_total(chunk["usage"])
    counts = [chunk["usage"]["completion_tokens"] for chunk in stream.chunks]
    if len({choice["index"] for choice in stream.choices}) == 1:
        must(
            all(a <= b for a, b in pairwise(counts)),
            "With continuous_usage_stats, completion_tokens must not fall",
            seen=counts,
        )
