"""A stream of POST /v1/messages, put together into the answer that it stands for. Pure.

The order that the Anthropic API reference ("Streaming messages") gives: message_start, then each
content block from its start to its stop, message_delta, message_stop; ping anywhere.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import messages_shapes as shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import check_model, must
from pytest_vllm.client.readers.messages import input_total
from pytest_vllm.client.shapes import COUNT, NAME, STRING, conform, one_of, optional

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Stream

__all__ = ["assemble"]

_DELTA = {
    "delta": {
        "stop_reason": one_of("end_turn", "max_tokens", "stop_sequence", "tool_use"),
        "stop_sequence": optional(STRING),
    },
    "usage": {"output_tokens": COUNT, "input_tokens": optional(COUNT)},
}


def assemble(stream: Stream, dialect: Dialect) -> dict[str, Any]:
    """Check the events one by one, and return the body that the unstreamed answer would have.

    Raises CheckFailed.
    """
    events = [event for event in stream.chunks if event.get("type") != "ping"]
    kinds = [event.get("type") for event in events]
    for name, place in (("message_start", 0), ("message_delta", -2), ("message_stop", -1)):
        where = {0: "first", -1: "last"}.get(place, "the last but one")
        good = len(events) >= 3 and kinds[place] == name and kinds.count(name) == 1
        must(good, f"A stream must have {name} once, as its {where} event", seen=_ends(kinds))
    start, final = events[0], events[-2]
    conform(start, {"message": shapes.STARTED}, "message_start")
    conform(final, _DELTA, "message_delta")
    message = start["message"]
    check_model(message["model"], stream.request)
    _check_usages(message["usage"], final["usage"])
    reason = final["delta"]["stop_reason"]
    content = [_finished(block, reason) for block in _blocks(events[1:-2])]
    usage = {**message["usage"], **{k: v for k, v in final["usage"].items() if v is not None}}
    ended = {"content": content or [{"type": "text", "text": ""}], "usage": usage}
    return {**message, **final["delta"], **ended}


def _ends(kinds: list[Any]) -> list[Any]:
    return kinds if len(kinds) < 8 else [*kinds[:3], "…", *kinds[-4:]]


def _blocks(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The content blocks, each opened, filled and closed before the next."""
    blocks: list[dict[str, Any]] = []
    is_open = False
    for event in events:
        kind, at = event.get("type"), len(blocks) - is_open
        must(
            event.get("index") == at,
            f"The index of {kind} must be that of its content block",
            expected=at,
            seen=event.get("index"),
        )
        if kind == "content_block_start" and not is_open:
            blocks.append(_opened(event))
            is_open = True
        elif kind == "content_block_delta" and is_open:
            _add(blocks[-1], event)
        elif kind == "content_block_stop" and is_open:
            is_open = False
        else:
            raise CheckFailed(f"{kind} must not come {'in' if is_open else 'outside'} a block")
    must(not is_open, "Each content block must end with a content_block_stop", seen=blocks[-1:])
    return blocks


def _opened(event: Mapping[str, Any]) -> dict[str, Any]:
    conform(event, {"content_block": {"type": NAME}}, "content_block_start")
    block = dict(event["content_block"])
    conform(block, shapes.BLOCKS.get(block["type"], {}), "content_block")
    for name in ("text", "thinking", "input"):
        must(
            not block.get(name),
            f"A content block must begin with an empty {name}",
            seen=block.get(name),
        )
    return block


def _add(block: dict[str, Any], event: Mapping[str, Any]) -> None:
    conform(event, {"delta": {"type": one_of(*shapes.DELTAS)}}, "content_block_delta")
    delta = event["delta"]
    owner, name = shapes.DELTAS[delta["type"]]
    must(
        block["type"] == owner,
        f"A {delta['type']} must belong to a {owner} block",
        seen=block["type"],
    )
    conform(delta, {name: STRING}, "delta")
    block[name] = (block.get(name) or "") + delta[name]


def _finished(block: dict[str, Any], reason: str) -> dict[str, Any]:
    """The block as an unstreamed answer has it: the input of a tool is no longer text."""
    if block["type"] != "tool_use":
        return block
    text = block.pop("partial_json", "") or "{}"
    try:
        value = json.loads(text)
    except ValueError:
        # Where the answer was cut, so was the JSON.
        must(
            reason in ("max_tokens", "stop_sequence"),
            "The input_json_deltas of a tool_use must add up to JSON",
            seen=text,
        )
        value = {}
    return {**block, "input": value}


def _check_usages(first: Mapping[str, Any], last: Mapping[str, Any]) -> None:
    """message_start counts the prompt already; message_delta has the final counts."""
    counted = last.get("input_tokens")
    cached = any("cache" in name for name in (*first, *last))
    must(input_total(first) > 0, "message_start must count the prompt", seen=dict(first))
    must(
        counted is None or cached or counted == first["input_tokens"],
        "message_start and message_delta must agree on usage.input_tokens",
        expected=first["input_tokens"],
        seen=counted,
    )
    must(
        first["output_tokens"] <= last["output_tokens"],
        "usage.output_tokens must not fall from message_start to message_delta",
        expected=first["output_tokens"],
        seen=last["output_tokens"],
    )
