"""The usage of a stream: where `stream_options` want it, and what it counts. Pure.

Source: OpenAI API reference, `stream_options.include_usage`; `continuous_usage_stats` is vLLM's.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import check_details, check_total, must
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Stream

__all__ = ["usage_of"]


def usage_of(stream: Stream) -> Mapping[str, Any] | None:
    """The usage at the end, after checking that it stands where `stream_options` want it.

    Raises CheckFailed.
    """
    options = stream.request.get("stream_options", {})
    *before, last = stream.chunks
    if not options.get("include_usage"):
        early = [chunk["usage"] for chunk in stream.chunks if chunk.get("usage")]
        must(not early, "Without include_usage, no chunk must have usage", seen=early)
        empty = [chunk for chunk in stream.chunks if not chunk["choices"]]
        must(not empty, "Without include_usage, every chunk must have choices", seen=empty)
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
    _check_counts(last, "usage")
    if continuous:
        _check_continuous(stream)
    return dict(last["usage"])


def _check_counts(chunk: Mapping[str, Any], where: str) -> None:
    conform(chunk["usage"], shapes.USAGE, where)
    check_total(chunk["usage"])
    check_details(chunk["usage"])


def _check_continuous(stream: Stream) -> None:
    """Each chunk counts the tokens of its own choice so far; the last one those of all."""
    *chunks, last = stream.chunks
    final, counts = last["usage"], dict[int, list[int]]()
    for position, chunk in enumerate(chunks):
        must(
            chunk.get("usage"),
            "With continuous_usage_stats, every chunk must have usage",
            seen=f"none in chunk {position}",
        )
        _check_counts(chunk, f"chunk {position}.usage")
        for choice in chunk["choices"]:
            counts.setdefault(choice["index"], []).append(chunk["usage"]["completion_tokens"])
    for index, seen in counts.items():
        must(
            all(a <= b for a, b in pairwise(seen)),
            "With continuous_usage_stats, completion_tokens must not fall",
            expected=f"for index {index}",
            seen=seen,
        )
    # A choice's own count, or that of all choices so far: both are sensible.
    ends = [seen[-1] for seen in counts.values()]
    must(
        final["completion_tokens"] in (sum(ends), max(ends, default=0)),
        "With continuous_usage_stats, the last counts must be those of the whole stream",
        expected=sum(ends),
        seen=final["completion_tokens"],
    )
    if len(counts) == 1:
        prompts = {chunk["usage"]["prompt_tokens"] for chunk in stream.chunks}
        must(
            len(prompts) == 1,
            "With continuous_usage_stats, prompt_tokens must stay the same",
            expected=final["prompt_tokens"],
            seen=sorted(prompts),
        )
