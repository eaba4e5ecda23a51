"""Each rule of the readers of /v1/responses can fail, and healthy answers pass."""

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
from pytest_vllm.client.readers.responses_items import LOGPROBS
from pytest_vllm.suite.ask_for_more import function, respond

VLLM = Dialect((0, 32))
ASKED = respond("m", max_output_tokens=3, instructions="i", metadata={"a": "b"})
CALLS = respond("m", tools=[function()], tool_choice="required", parallel_tool_calls=False)
LOGGED = ASKED.but(include=[LOGPROBS], top_logprobs=1)

PART: dict[str, Any] = {"type": "output_text", "text": "ab", "annotations": [], "logprobs": None}
MESSAGE: dict[str, Any] = {
    "id": "msg_0123456789",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [PART],
}
CALL: dict[str, Any] = {
    "id": "fc_0123456789",
    "type": "function_call",
    "call_id": "call_1",
    "name": "choose_city",
    "arguments": '{"city": "Rome"}',
    "status": "completed",
}
USAGE: dict[str, Any] = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}
HEALTHY: dict[str, Any] = {
    "id": "resp_0123456789",
    "object": "response",
    "created_at": 1795535036,
    "model": "m",
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
    "instructions": "i",
    "metadata": {"a": "b"},
    "output": [MESSAGE],
    "parallel_tool_calls": True,
    "temperature": 0.0,
    "top_p": 1.0,
    "tool_choice": "none",
    "tools": [],
    "truncation": "disabled",
    "background": False,
    "max_output_tokens": 3,
    "usage": USAGE,
}
DONE: dict[str, Any] = {"status": "completed", "incomplete_details": None}
CALLED: dict[str, Any] = {
    **HEALTHY,
    **DONE,
    "instructions": None,
    "metadata": None,
    "output": [CALL],
    "parallel_tool_calls": False,
    "tool_choice": "required",
    "tools": [function()],
    "max_output_tokens": 16,
}


def without(name: str) -> dict[str, Any]:
    return {name: ...}


def item(**fields: Any) -> dict[str, Any]:
    return {"output": [{**MESSAGE, **fields}]}


def part(**fields: Any) -> dict[str, Any]:
    return item(content=[{**PART, **fields}])


def usage(**fields: Any) -> dict[str, Any]:
    return {"usage": {**USAGE, **fields}}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"id": "x"}, "An id must begin with resp_"),
    ({"object": "chat.completion"}, "object must be"),
    ({"created_at": 1795535036000}, "created_at must be a Unix time"),
    ({"model": "other"}, "the one that was asked for"),
    ({"status": "in_progress"}, "status must be completed or incomplete"),
    ({"status": "length"}, "status must be one of"),
    (DONE | {"incomplete_details": {"reason": "max_output_tokens"}}, "must be null where"),
    ({"incomplete_details": None}, "must say why"),
    ({"incomplete_details": {"reason": "length"}}, "must say why"),
    ({"error": {"message": "x"}}, "`error` must be null"),
    (without("temperature"), "temperature must be"),
    (without("tool_choice"), "tool_choice must be"),
    ({"temperature": 1.0}, "`temperature` must be repeated"),
    ({"instructions": None}, "`instructions` must be repeated"),
    ({"metadata": {}}, "`metadata` must be repeated"),
    ({"max_output_tokens": 16}, "`max_output_tokens` must be repeated"),
    ({"user": "somebody"}, "`user` must have its default"),
    ({"tools": [function()]}, "`tools` must have its default"),
    ({"tool_choice": "required"}, "`tool_choice` must have its default"),
    ({"parallel_tool_calls": False}, "`parallel_tool_calls` must have its default"),
    ({"truncation": "auto"}, "`truncation` must have its default"),
    ({"previous_response_id": "resp_1"}, "`previous_response_id` must have its default"),
    ({"output": None}, "output must be a list"),
    ({"output": [MESSAGE, MESSAGE]}, "an id of its own"),
    ({"output": [CALL]}, "a tool that the request allows"),
    (item(role="user"), "role must be"),
    (item(id="x"), "id must begin with msg_"),
    (item(content="ab"), "content must be a list"),
    (DONE | item(status="incomplete"), "status must be completed, as the response is"),
    (part(text=None), "text must be a string"),
    (part(annotations=None), "annotations must be a list"),
    (part(logprobs=[{"token": "a"}]), "must be empty where they were not asked for"),
    ({"usage": None}, "usage must be an object"),
    (usage(total_tokens=13), "total_tokens must be"),
    (usage(input_tokens=0, total_tokens=3), "must count the prompt"),
    (usage(output_tokens=0, total_tokens=9), "at least one token"),
    (usage(output_tokens=4, total_tokens=13), "must be at most 3"),
    (usage(output_tokens=2, total_tokens=11), "must have that many tokens"),
    (usage(input_tokens_details={"cached_tokens": 10}), "cached_tokens must be at most"),
    (usage(output_tokens_details=None), "output_tokens_details must be"),
    (usage(output_tokens_details={"reasoning_tokens": 4}), "reasoning_tokens must be at most"),
]
WRONG_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"output": [{**CALL, "call_id": None}]}, "call_id must be"),
    ({"output": [{**CALL, "name": "x"}]}, "a tool that the request allows"),
    ({"output": [{**CALL, "arguments": {"city": "Rome"}}]}, "arguments must be a string"),
    ({"output": [{**CALL, "arguments": '{"city"'}]}, "arguments of a function_call must be JSON"),
    ({"output": [CALL, {**CALL, "id": "fc_abcdefghij"}]}, "its own call_id"),
    (
        {"output": [CALL, {**CALL, "id": "fc_abcdefghij", "call_id": "c"}]},
        "parallel_tool_calls=false",
    ),
    ({"output": [MESSAGE]}, "there must be a function_call"),
    ({"tools": []}, "`tools` must be repeated"),
    ({"tool_choice": "auto"}, "`tool_choice` must be repeated"),
]


def answer(request: Request, body: dict[str, Any]) -> Answer:
    body = {name: value for name, value in body.items() if value is not ...}
    headers = {"content-type": "application/json"}
    return Answer(request, "curl", 200, headers, json.dumps(body).encode())


def test_a_healthy_response_passes() -> None:
    read(answer(ASKED, HEALTHY), VLLM)
    read(answer(CALLS, CALLED), VLLM)


@pytest.mark.parametrize(("wrong", "said"), WRONG)
def test_each_broken_rule_is_found(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        read(answer(ASKED, {**HEALTHY, **wrong}), VLLM)


@pytest.mark.parametrize(("wrong", "said"), WRONG_CALLS)
def test_each_broken_rule_of_functions_is_found(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(CheckFailed, match=said):
        read(answer(CALLS, {**CALLED, **wrong}), VLLM)


def logprob(token: str = "a", value: float = -1.0, **more: Any) -> dict[str, Any]:
    entry = {"token": token, "logprob": value, "bytes": list(token.encode())}
    return {**entry, "top_logprobs": [entry], **more}


WRONG_LOGPROBS: list[tuple[Any, str]] = [
    (None, "logprobs must be a list"),
    ([logprob()], "one entry for each token"),
    ([logprob(value=1.0)] * 3, "must be a logprob"),
    ([logprob(top_logprobs=[])] * 3, "the 1 best candidates"),
    ([logprob(bytes=[98])] * 3, "bytes must be the token's"),
]


@pytest.mark.parametrize(("logprobs", "said"), WRONG_LOGPROBS)
def test_each_broken_rule_of_logprobs_is_found(logprobs: Any, said: str) -> None:
    read(answer(LOGGED, {**HEALTHY, **part(logprobs=[logprob()] * 3)}), VLLM)
    with pytest.raises(CheckFailed, match=said):
        read(answer(LOGGED, {**HEALTHY, **part(logprobs=logprobs)}), VLLM)


def test_a_text_that_must_be_json_is_parsed() -> None:
    form = {"type": "json_object"}
    body = {**HEALTHY, **DONE, "text": {"format": form}}
    with pytest.raises(CheckFailed, match="text must be JSON"):
        read(answer(ASKED.but(text={"format": form}), body), VLLM)


Events = list[dict[str, Any]]


def healthy_events(call: bool = False) -> Events:
    whole = CALLED if call else HEALTHY
    early = {**whole, "status": "in_progress", "output": [], "incomplete_details": None}
    early["usage"] = None
    place = {"output_index": 0, "item_id": (CALL if call else MESSAGE)["id"]}
    inner = {**place, "content_index": 0}
    kinds = ["created", "in_progress"]
    body = _call_events(place) if call else _message_events(inner)
    events: Events = [
        *[{"type": f"response.{kind}", "response": early} for kind in kinds],
        *body,
        {"type": "response.completed", "response": whole},
    ]
    return copy.deepcopy([{**e, "sequence_number": n} for n, e in enumerate(events)])


def _message_events(place: dict[str, Any]) -> Events:
    opened = {**MESSAGE, "content": [], "status": "in_progress"}
    text = "response.output_text"
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": "response.content_part.added", **place, "part": {**PART, "text": ""}},
        {"type": f"{text}.delta", **place, "delta": "a"},
        {"type": f"{text}.delta", **place, "delta": "b"},
        {"type": f"{text}.done", **place, "text": "ab"},
        {"type": "response.content_part.done", **place, "part": PART},
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    ]


def _call_events(place: dict[str, Any]) -> Events:
    opened = {**CALL, "arguments": "", "status": "in_progress"}
    text, arguments = "response.function_call_arguments", CALL["arguments"]
    return [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": f"{text}.delta", **place, "delta": arguments[:4]},
        {"type": f"{text}.delta", **place, "delta": arguments[4:]},
        {"type": f"{text}.done", **place, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": 0, "item": CALL},
    ]


def streamed(request: Request, events: Events) -> Stream:
    headers = {"content-type": "text/event-stream"}
    times = tuple(0.0 for _ in events)
    return Stream(request.but(stream=True), "curl", 200, headers, tuple(events), times)


@pytest.mark.parametrize("call", [False, True])
def test_a_healthy_stream_adds_up(call: bool) -> None:
    whole = read_stream(streamed(CALLS if call else ASKED, healthy_events(call)), VLLM).whole
    assert whole is not None
    assert whole.json == (CALLED if call else HEALTHY)


def put(at: int, **fields: Any) -> Callable[[Events], Any]:
    return lambda events: events[at].update(fields)


def put_in(at: int, inner: str, /, **fields: Any) -> Callable[[Events], Any]:
    return lambda events: events[at][inner].update(fields)


def drop(at: int) -> Callable[[Events], Any]:
    """Leave an event out, and number the others anew."""

    def do(events: Events) -> None:
        del events[at]
        for number, event in enumerate(events):
            event["sequence_number"] = number

    return do


def double(at: int) -> Callable[[Events], Any]:
    """Send an event twice, and number all anew."""

    def do(events: Events) -> None:
        events.insert(at, copy.deepcopy(events[at]))
        for number, event in enumerate(events):
            event["sequence_number"] = number

    return do


BROKEN: list[tuple[Callable[[Events], Any], str]] = [
    (lambda e: e.pop(4), "sequence_number must count"),
    (put(4, sequence_number=3), "sequence_number must count"),
    (put(4, sequence_number=None), "sequence_number must be"),
    (drop(0), "must have response.created once"),
    (drop(1), "must have response.in_progress once"),
    (drop(-1), "must have response.completed or response.incomplete once"),
    (double(0), "must have response.created once|response.in_progress once"),
    (double(-1), "must have response.completed or response.incomplete once"),
    (put(-1, type="response.failed"), "must not break off"),
    (put_in(0, "response", id="resp_abcdefghij"), "of the same response"),
    (put_in(0, "response", status="completed"), "must be in progress"),
    (put_in(1, "response", instructions=None), "`instructions` must be repeated"),
    (put_in(1, "response", usage=USAGE), "must have no usage yet"),
    (drop(2), "must come within an output item"),
    (drop(3), "must be that of the open part|must come within a part"),
    (drop(4), "output_text.done must have the text of the deltas"),
    (double(4), "output_text.done must have the text of the deltas"),
    (drop(6), "output_text.done must come before content_part.done"),
    (double(6), "output_text.done must come once"),
    (drop(7), "must end with a content_part.done"),
    (drop(8), "must end with an output_item.done"),
    (double(2), "must be done before the next"),
    (put(5, output_index=1), "must be those of the open item"),
    (put(5, item_id="msg_x"), "must be those of the open item"),
    (put(5, content_index=1), "must be that of the open part"),
    (put(5, delta=None), "delta must be a string"),
    (put(6, text="a"), "must have the text of the deltas"),
    (put_in(7, "part", text="a"), "content_part.done must have the text"),
    (put_in(3, "part", text="a"), "must be empty when it is added"),
    (put_in(2, "item", content=[PART]), "must be empty when it is added"),
    (put_in(8, "item", id="msg_abcdefghij"), "id must be the same"),
    (put_in(8, "item", content=[]), "must have the parts that were streamed"),
    (put(8, output_index=1), "must count the items"),
    (put_in(-1, "response", output=[]), "must be the output of the last event"),
    (put_in(-1, "response", usage=None), "usage must be an object"),
]


@pytest.mark.parametrize(("break_it", "said"), BROKEN)
def test_each_broken_rule_of_a_stream_is_found(
    break_it: Callable[[Events], Any], said: str
) -> None:
    events = healthy_events()
    break_it(events)
    with pytest.raises(CheckFailed, match=said):
        read_stream(streamed(ASKED, events), VLLM)


BROKEN_CALLS: list[tuple[Callable[[Events], Any], str]] = [
    (drop(3), "function_call_arguments.done must have the text of the deltas"),
    (drop(5), "function_call_arguments.done must come before"),
    (put(5, arguments="{}"), "must have the text of the deltas"),
    (put_in(6, "item", arguments="{}"), "must have the text of the deltas"),
    (put_in(6, "item", call_id="call_2"), "call_id must be the same"),
    (put_in(2, "item", name="x"), "name must be the same"),
]


@pytest.mark.parametrize(("break_it", "said"), BROKEN_CALLS)
def test_each_broken_rule_of_a_streamed_call_is_found(
    break_it: Callable[[Events], Any], said: str
) -> None:
    events = healthy_events(call=True)
    break_it(events)
    with pytest.raises(CheckFailed, match=said):
        read_stream(streamed(CALLS, events), VLLM)
