"""What all chunks of one OpenAI stream have in common, and how they follow each other. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vllm.client.readers.chunk_usage import usage_of
from pytest_vllm.client.readers.common import check_head, check_model, must
from pytest_vllm.client.shapes import Shape, conform

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Stream

__all__ = ["by_index", "check_chunks", "usage_of"]


def check_chunks(stream: Stream, shape: Shape) -> None:
    """Every chunk has the shape, and all are parts of one answer to this request."""
    must(stream.chunks, "A stream must have chunks", seen=[])
    for position, chunk in enumerate(stream.chunks):
        conform(chunk, shape, f"chunk {position}")
        check_head(chunk)
        check_model(chunk["model"], stream.request)
        indices = [choice["index"] for choice in chunk["choices"]]
        must(
            len({*indices}) == len(indices),
            "A chunk must have at most one part of each choice",
            seen=indices,
        )
    for name in ("id", "created", "model", "object"):
        values = {chunk[name] for chunk in stream.chunks}
        must(len(values) == 1, f"All chunks must have the same {name}", seen=sorted(values))
    said = {c["system_fingerprint"] for c in stream.chunks if c.get("system_fingerprint")}
    must(len(said) <= 1, "All chunks must have the same system_fingerprint", seen=sorted(said))


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
        early = [c["stop_reason"] for c in choices[:-1] if c.get("stop_reason") is not None]
        must(not early, "stop_reason must come with the finish_reason", seen=early)
    return parts
