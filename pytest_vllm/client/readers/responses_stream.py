"""A stream of POST /v1/responses: its frame, and the answer it adds up to. Pure.

The order of the OpenAI API reference ("Streaming events"): response.created and in_progress, the
items (`responses_machine`), then response.completed or response.incomplete with the whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import responses_shapes as shapes
from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.responses import check_head
from pytest_vllm.client.readers.responses_items import LOGPROBS
from pytest_vllm.client.readers.responses_machine import Machine
from pytest_vllm.client.shapes import NAME, conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Stream

__all__ = ["assemble"]

Event = Mapping[str, Any]

_ENDS = ("response.completed", "response.incomplete")


def assemble(stream: Stream, dialect: Dialect) -> dict[str, Any]:
    """Check the events one by one, and return the answer that the last of them holds.

    Raises CheckFailed.
    """
    events = stream.chunks
    _check_frame(events)
    whole = events[-1]["response"]
    for event in events[:2]:
        _check_early(event, whole, stream, dialect)
    machine = Machine(dialect)
    for event in events[2:-1]:
        machine.take(event)
    must(machine.item is None, "Each output item must end with an output_item.done")
    found = difference(whole["output"], machine.done)
    must(
        found is None,
        "The items that were streamed must be the output of the last event"
        + (f"; {found.where} differs" if found else ""),
        expected=found and found.left,
        seen=found and found.right,
    )
    if LOGPROBS in stream.request.get("include", []):
        _check_logprobs(whole, machine)
    return dict(whole)


def _check_frame(events: tuple[dict[str, Any], ...]) -> None:
    """First and last events, and the sequence numbers of all."""
    for position, event in enumerate(events):
        conform(event, shapes.EVENT, f"event {position}")
        kind = event["type"]
        if kind in ("error", "response.failed"):
            raise CheckFailed("A stream must not break off with an error", seen=event)
        first = events[0]["sequence_number"]
        must(
            event["sequence_number"] == position + first and first in (0, 1),
            "sequence_number must count the events from 0, one by one",
            expected=position,
            seen=event["sequence_number"],
        )
    kinds = [event["type"] for event in events]
    for name, at in (("response.created", 0), ("response.in_progress", 1)):
        good = kinds[at : at + 1] == [name] and kinds.count(name) == 1
        must(good, f"A stream must have {name} once, as event {at}", seen=kinds[:4])
    ends = [kind for kind in kinds if kind in _ENDS]
    must(
        len(ends) == 1 and kinds[-1] in _ENDS,
        "A stream must have response.completed or response.incomplete once, as its last event",
        seen=kinds[-4:],
    )
    for event in (*events[:2], events[-1]):
        conform(event, {"response": {"id": NAME, "object": NAME}}, event["type"])


def _check_early(event: Event, whole: Event, stream: Stream, dialect: Dialect) -> None:
    """Before anything is generated: the same answer, but for what is not known yet."""
    early = event["response"]
    check_head(early, stream.request, dialect)
    open_ = early["status"] in ("in_progress", "queued") and not early["output"]
    must(open_, f"{event['type']} must be in progress, and have no output yet", seen=early)
    must(not early.get("usage"), f"{event['type']} must have no usage yet")
    later = ("status", "output", "usage", "incomplete_details", "completed_at", "metrics")
    found = difference(early, whole, ignore=later)
    must(
        found is None,
        f"{event['type']} must be of the same response as the last event"
        + (f"; {found.where} differs" if found else ""),
        expected=found and found.right,
        seen=found and found.left,
    )


def _check_logprobs(whole: Event, machine: Machine) -> None:
    """The logprobs of the deltas are those of the whole answer."""
    expected = [
        (entry["token"], entry["logprob"])
        for item in whole["output"]
        for part in item.get("content") or []
        for entry in part.get("logprobs") or []
    ]
    seen = [(entry.get("token"), entry.get("logprob")) for entry in machine.logprobs]
    rule = "The logprobs of the deltas must add up to those of the whole answer"
    must(seen == expected, rule, expected=expected, seen=seen)
