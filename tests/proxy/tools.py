"""Faults of tool calls and reasoning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.proxy.fault import Fault, H, Start, chunks, each_choice, stream, together, whole
from tests.proxy.messages import Body, Frame

F = Fault
Calls = Callable[[list[Body], Body], Any]


def _whole(change: Calls) -> Start:
    """Change the tool calls of whole answers."""

    def edit(choice: Body, ask: Body) -> None:
        if calls := choice.get("message", {}).get("tool_calls"):
            change(calls, choice)

    return whole(each_choice(edit), (H,))


def _streamed(change: Calls) -> Start:
    """Change the tool calls of deltas."""

    def edit(choice: Body, ask: Body) -> None:
        if calls := (choice.get("delta") or {}).get("tool_calls"):
            change(calls, choice)

    return chunks(each_choice(edit), (H,))


def _both(change: Calls) -> Start:
    return together(_whole(change), _streamed(change))


def _each(change: Callable[[Body], Any]) -> Calls:
    return lambda calls, choice: [change(call) for call in calls] and None


def _function(change: Callable[[Body], Any]) -> Calls:
    return _each(lambda call: call.get("function") and change(call["function"]))


def _as_content(calls: list[Body], choice: Body) -> None:
    call = calls[0]["function"]
    choice["message"].update(tool_calls=[], content=json.dumps(call))


def _first_fragment_lost(frames: Iterator[Frame], ask: Body) -> Iterable[Frame]:
    lost = False
    for frame in frames:
        chunk = frame.chunk or {}
        for choice in chunk.get("choices") or []:
            for call in (choice.get("delta") or {}).get("tool_calls") or []:
                function = call.get("function") or {}
                if function.get("arguments") and not lost:
                    function["arguments"], lost = "", True
                    frame = frame.with_chunk(chunk)
        yield frame


def _stop_for_calls(choice: Body, ask: Body) -> None:
    if choice.get("finish_reason") == "tool_calls":
        choice["finish_reason"] = "stop"


def _markup(choice: Body, ask: Body) -> None:
    part = choice.get("message") or {}
    if part.get("tool_calls"):
        part["content"] = "<tool_call>" + (part.get("content") or "")


def _reasoning_into_content(choice: Body, ask: Body) -> None:
    part = choice.get("message") or choice.get("delta") or {}
    if reasoning := part.pop("reasoning", None):
        part["content"] = f"<think>{reasoning}</think>{part.get('content') or ''}"


FAULTS = [
    F(
        "tool_ids_are_missing_in_streams",
        "vllm#18412",
        _streamed(_each(lambda c: c.pop("id", 0))),
        "chat",
    ),
    F(
        "tool_ids_are_null",
        "vllm#18412",
        _both(_each(lambda c: "id" in c and c.update(id=None))),
        "chat",
    ),
    F(
        "tool_ids_are_the_same",
        "vllm#47734",
        _whole(_each(lambda c: c.update(id="call_0"))),
        "chat",
    ),
    F(
        "tool_ids_in_every_chunk",
        "",
        _streamed(_each(lambda c: c.setdefault("id", "call_x"))),
        "chat",
    ),
    F("tool_type_is_left_out", "lmstudio#649", _both(_each(lambda c: c.pop("type", 0))), "chat"),
    F(
        "tool_index_is_left_out",
        "ollama#7881",
        _streamed(_each(lambda c: c.pop("index", 0))),
        "chat",
    ),
    F("tool_index_always_0", "ollama#15457", _streamed(_each(lambda c: c.update(index=0))), "chat"),
    F(
        "tool_index_starts_at_1",
        "bamboo#377",
        _streamed(_each(lambda c: c.update(index=c["index"] + 1))),
        "chat",
    ),
    F(
        "tool_arguments_are_an_object",
        "",
        _whole(_function(lambda f: f.update(arguments=json.loads(f["arguments"] or "{}")))),
        "chat",
    ),
    F(
        "tool_arguments_encoded_twice",
        "vllm#9693",
        _whole(_function(lambda f: f.update(arguments=json.dumps(f["arguments"])))),
        "chat",
    ),
    F(
        "tool_arguments_are_none_in_streams",
        "vllm#9693",
        _streamed(_function(lambda f: "arguments" in f and f.update(arguments=None))),
        "chat",
    ),
    F(
        "tool_arguments_are_empty",
        "vllm#9693",
        _both(_function(lambda f: "arguments" in f and f.update(arguments=""))),
        "chat",
    ),
    F(
        "tool_arguments_are_cut",
        "vllm#37937",
        _whole(_function(lambda f: f.update(arguments=f["arguments"][:-1]))),
        "chat",
    ),
    F("tool_arguments_lose_a_fragment", "vllm#36849", stream(_first_fragment_lost, (H,)), "chat"),
    F("tool_name_is_left_out", "vllm#9048", _both(_function(lambda f: f.pop("name", 0))), "chat"),
    F(
        "tool_name_in_every_chunk",
        "",
        _streamed(_function(lambda f: f.setdefault("name", "get_weather"))),
        "chat",
    ),
    F(
        "tool_name_is_another",
        "vllm#9048",
        _both(_function(lambda f: f.get("name") and f.update(name=f["name"] + "_1"))),
        "chat",
    ),
    F("tool_calls_come_as_content", "vllm#11786", _whole(_as_content), "chat"),
    F(
        "tool_calls_finish_with_stop",
        "mlx-vlm#1014",
        together(
            whole(each_choice(_stop_for_calls), (H,)), chunks(each_choice(_stop_for_calls), (H,))
        ),
        "chat",
    ),
    F(
        "streamed_tool_calls_finish_with_stop",
        "vllm#9209",
        chunks(each_choice(_stop_for_calls), (H,)),
        "chat",
    ),
    F(
        "only_the_first_tool_call",
        "vllm#11786",
        _whole(lambda calls, choice: calls.__delitem__(slice(1, None))),
        "chat",
    ),
    F("tool_markup_leaks", "omlx#3153", whole(each_choice(_markup), (H,)), "chat"),
    F(
        "tool_calls_are_null_strings",
        "",
        whole(
            each_choice(
                lambda c, a: (
                    c["message"].update(tool_calls=None) if c["message"].get("tool_calls") else None
                )
            ),
            (H,),
        ),
        "chat",
    ),
    F(
        "empty_tool_calls_in_deltas",
        "",
        chunks(each_choice(lambda c, a: (c.get("delta") or {}).setdefault("tool_calls", [])), (H,)),
        "chat",
    ),
    F(
        "reasoning_in_content",
        "vllm#45687",
        together(
            whole(each_choice(_reasoning_into_content), (H,)),
            chunks(each_choice(_reasoning_into_content), (H,)),
        ),
        "reasoning",
    ),
]
