"""Each rule of the readers of /v1/messages can fail, and healthy answers pass."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Answer, Request, Stream
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers import read, read_stream
from pytest_vllm.suite.ask_for_more import count_of, message, tool

VLLM = Dialect((0, 32))
ASKED = message("m", max_tokens=3, stop_sequences=["X"])
TOOLS = message("m", tools=[tool()], tool_choice={"type": "any"})
HEALTHY: dict[str, Any] = {
    "id": "msg_0123456789",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "abc"}],
    "stop_reason": "max_tokens",
    "usage": {"input_tokens": 9, "output_tokens": 3},
}
USE = {"type": "tool_use", "id": "toolu_1", "name": "choose_city", "input": {"city": "Rome"}}
USED = {**HEALTHY, "content": [USE], "stop_reason": "tool_use"}
#: What is wrong -> a part of the message.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": ""}, "id must be"),
    ({"id": "x"}, "The id of a message must be"),
    ({"type": "chat.completion"}, "type must be"),
    ({"role": "user"}, "role must be"),
    ({"model": "other"}, "the one that was asked for"),
    ({"content": "abc"}, "content must be a list"),
    ({"content": [{"type": "text"}]}, r"content\[0\].text must be a string"),
    ({"content": [{"type": "text", "text": "aX"}]}, "must end before the stop sequence"),
    ({"content": [USE], "stop_reason": "tool_use"}, "a tool that the request allows"),
    ({"stop_reason": "length"}, "stop_reason must be one of"),
    ({"stop_reason": None}, "stop_reason must be one of"),
    ({"stop_reason": "tool_use"}, "where there is a tool_use block, and only there"),
    ({"stop_reason": "stop_sequence"}, "stop_sequence must be the one of"),
    ({"stop_reason": "stop_sequence", "stop_sequence": "Y"}, "stop_sequence must be the one"),
    ({"stop_sequence": "X"}, "stop_sequence must be null where"),
    ({"usage": None}, "usage must be an object"),
    ({"usage": {"input_tokens": 0, "output_tokens": 3}}, "must count the prompt"),
    ({"usage": {"input_tokens": 9, "output_tokens": 0}}, "at least one token"),
    ({"usage": {"input_tokens": 9, "output_tokens": 4}}, "at most max_tokens=3"),
    ({"usage": {"input_tokens": 9, "output_tokens": 2}}, "after exactly max_tokens=3"),
]
WRONG_USES: list[tuple[dict[str, Any], str]] = [
    ({"content": [{**USE, "input": "{}"}]}, "input must be an object"),
    ({"content": [{**USE, "id": ""}]}, "id must be a non-empty string"),
    ({"content": [{**USE, "name": "x"}]}, "a tool that the request allows"),
    ({"content": [USE, USE]}, "an id of its own"),
    ({"content": HEALTHY["content"], "stop_reason": "end_turn"}, "there must be a tool_use"),
    ({"stop_reason": "end_turn"}, "stop_reason must be"),
]


def answer(request: Request, body: Any) -> Answer:
    headers = {"content-type": "application/json"}
    return Answer(request, "curl", 200, headers, json.dumps(body).encode())


def test_a_healthy_message_passes() -> None:
    read(answer(ASKED, HEALTHY), VLLM)
    read(answer(TOOLS, USED), VLLM)


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_each_broken_rule_is_found(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        read(answer(ASKED, {**HEALTHY, **wrong}), VLLM)


@pytest.mark.parametrize(("wrong", "said"), WRONG_USES)
def test_each_broken_rule_of_tools_is_found(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        read(answer(TOOLS, {**USED, **wrong}), VLLM)


@pytest.mark.parametrize(
    "body", [{}, {"input_tokens": 0}, {"input_tokens": "9"}, {"input_tokens": None}]
)
def test_a_wrong_count_is_found(body: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed, match="input_tokens"):
        read(answer(count_of(ASKED), body), VLLM)


Events = list[dict[str, Any]]


def healthy_events() -> Events:
    start = {**HEALTHY, "content": [], "stop_reason": None, "stop_sequence": None}
    start["usage"] = {"input_tokens": 9, "output_tokens": 0}
    json_ = [
        {"type": "input_json_delta", "partial_json": part} for part in ('{"city"', ': "Rome"}')
    ]
    use = {**USE, "input": {}}
    final = {"stop_reason": "tool_use", "stop_sequence": None}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": use},
        *[{"type": "content_block_delta", "index": 1, "delta": delta} for delta in json_],
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": final, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]


def streamed(events: Events) -> Stream:
    headers = {"content-type": "text/event-stream"}
    times = tuple(0.0 for _ in events)
    return Stream(TOOLS.but(stream=True), "curl", 200, headers, tuple(events), times)


def test_a_healthy_stream_adds_up() -> None:
    whole = read_stream(streamed(healthy_events()), VLLM).whole
    assert whole is not None
    assert whole.json["content"] == [{"type": "text", "text": "a"}, USE]
    assert whole.json["usage"] == {"input_tokens": 9, "output_tokens": 3}


def put(at: int, **fields: Any) -> Callable[[Events], Any]:
    return lambda events: events[at].update(fields)


BROKEN: list[tuple[Callable[[Events], Any], str]] = [
    (lambda e: e.pop(0), "message_start once, as its first"),
    (lambda e: e.pop(-1), "message_delta once|message_stop once"),
    (lambda e: e.pop(-2), "message_delta once"),
    (lambda e: e.append({"type": "message_stop"}), "message_(delta|stop) once"),
    (lambda e: e.insert(1, copy.deepcopy(e[0])), "message_start once"),
    (lambda e: e.pop(1), "must not come outside a block"),
    (lambda e: e.pop(4), "content_block_start must be|must not come in a block"),
    (lambda e: e.pop(8), "must end with a content_block_stop"),
    (put(1, index=1), "The index of content_block_start"),
    (put(3, index=1), "The index of content_block_delta"),
    (put(5, index=0), "The index of content_block_start"),
    (put(8, index=0), "The index of content_block_stop"),
    (put(3, delta={"type": "input_json_delta", "partial_json": "{"}), "must belong to a tool_use"),
    (put(3, delta={"type": "text_delta", "text": None}), "text must be a string"),
    (put(1, content_block={"type": "text", "text": "a"}), "must begin with an empty text"),
    (put(5, content_block=USE), "must begin with an empty input"),
    (lambda e: e.pop(6), "must add up to JSON"),
    (put(-2, usage={}), "output_tokens must be"),
    (put(-2, usage={"output_tokens": 3, "input_tokens": 8}), "must agree on usage.input_tokens"),
    (put(-2, delta={"stop_reason": None}), "stop_reason must be one of"),
    (lambda e: e[0]["message"].update(content=[1]), "content must be an empty list"),
    (lambda e: e[0]["message"].update(stop_reason="end_turn"), "stop_reason must be null"),
    (lambda e: e[0]["message"].update(model="x"), "the one that was asked for"),
    (lambda e: e[0]["message"]["usage"].update(input_tokens=0), "must count the prompt"),
    (lambda e: e[0]["message"]["usage"].update(output_tokens=4), "must not fall"),
]


@pytest.mark.parametrize(("break_it", "said"), BROKEN)
def test_each_broken_rule_of_a_stream_is_found(
    break_it: Callable[[Events], Any], said: str
) -> None:
    events = healthy_events()
    break_it(events)
    with pytest.raises(CheckFailed, match=said):
        read_stream(streamed(events), VLLM)
