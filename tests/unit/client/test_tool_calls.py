"""Each rule of the reader of tool calls and reasoning, kept and broken."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.tool_calls import assemble, read
from pytest_vllm.suite.toolbox import PICK, PING, named, tool

GOOD = '{"size": "small", "wrapped": true}'
VLLM = Dialect((0, 32))


def _call(name: str = "pick_size", arguments: Any = GOOD, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": "call-1", "type": "function", "function": function, **more}


def _read(
    *calls: dict[str, Any], finish: str = "tool_calls", content: Any = None, **fields: Any
) -> None:
    body = {"tools": [PICK, PING], "tool_choice": "required", **fields}
    request = Request("POST", "/v1/chat/completions", body)
    read({"content": content, "tool_calls": [*calls]}, finish, request, VLLM)


def test_a_good_call_is_read() -> None:
    _read(_call())
    _read(_call(), _call("ping", "{}", id="call-2"))
    _read(_call(), tool_choice=named("pick_size"), finish="stop")
    _read(_call(), tool_choice="auto", content="Let me see.")
    _read(tool_choice="auto", finish="stop", content="No.")
    _read(_call("free", "true"), tools=[tool("free", strict=False)])


@pytest.mark.parametrize(
    ("calls", "how", "rule"),
    [
        ([], {}, "must be there where they end"),
        ([], {"finish": "stop"}, "a tool must be called"),
        ([], {"finish": "stop", "tool_choice": named("ping")}, "a tool must be called"),
        ([_call(id="")], {}, "id must be"),
        ([_call(id=None)], {}, "id must be"),
        ([_call(type="tool")], {}, "type must be"),
        ([_call("")], {}, "name must be"),
        ([_call(), _call()], {}, "ids of tool calls must be unique"),
        ([_call("zzz")], {}, "Only tools of the request"),
        ([_call()], {"tool_choice": named("ping"), "finish": "stop"}, "Just the named tool"),
        ([_call()], {"tool_choice": named("pick_size")}, "must end with stop"),
        ([_call()], {"finish": "stop"}, "must end the answer"),
        ([_call()], {"finish": "stop", "tool_choice": "auto"}, "must end the answer"),
        ([_call()], {"tool_choice": "none"}, "no tool must be called"),
        ([_call()], {"tools": None}, "no tool must be called"),
        ([_call()], {"content": "<tool_call>"}, "content must be empty"),
        ([_call(), _call(id="b")], {"parallel_tool_calls": False}, "one tool must be called"),
        ([_call(arguments=None)], {}, "arguments must be a string"),
        ([_call(arguments={"size": "small"})], {}, "arguments must be a string"),
        ([_call(arguments=GOOD[:-1])], {}, "must be JSON"),
        ([_call(arguments=GOOD * 2)], {}, "must be JSON"),
        ([_call(arguments="true")], {}, "must be an object"),
        ([_call(arguments='{"size": "small"}')], {}, "must fit its schema"),
        ([_call(arguments=GOOD.replace("true", '"true"'))], {}, "must fit its schema"),
    ],
)
def test_a_bad_call_is_noticed(calls: list[Any], how: dict[str, Any], rule: str) -> None:
    with pytest.raises(CheckFailed, match=rule):
        _read(*calls, **how)


def test_the_last_call_may_be_cut_by_max_tokens() -> None:
    _read(_call(arguments='{"si'), finish="length")
    with pytest.raises(CheckFailed, match="must be JSON"):
        _read(_call(arguments='{"si'), _call(id="b"), finish="length")


@pytest.mark.parametrize(
    ("message", "fields", "rule"),
    [
        ({"reasoning": 5}, {}, "must be a string"),
        ({"reasoning": "a", "reasoning_content": "b"}, {}, "must say the same"),
        ({"reasoning": "a"}, {"include_reasoning": False}, "no reasoning"),
    ],
)
def test_bad_reasoning_is_noticed(
    message: dict[str, Any], fields: dict[str, Any], rule: str
) -> None:
    with pytest.raises(CheckFailed, match=rule):
        read(message, "stop", Request("POST", "/", fields), VLLM)


def _delta(index: int = 0, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **more}]}


HEAD = _delta(id="a", type="function", function={"name": "f"})
SECOND = _delta(1, id="b", type="function", function={"name": "g", "arguments": ""})


def test_pieces_are_put_together() -> None:
    pieces = [_delta(function={"arguments": part}) for part in ('{"x"', ": 1}")]
    deltas = [{"role": "assistant"}, {"reasoning": "so "}, {"reasoning": "so"}, HEAD, *pieces]
    first, second = assemble([*deltas, SECOND])["tool_calls"]
    assert first == {
        "id": "a",
        "type": "function",
        "function": {"name": "f", "arguments": '{"x": 1}'},
    }
    assert second["function"] == {"name": "g", "arguments": ""}
    assert assemble(deltas)["reasoning"] == "so so"


def test_only_what_came_is_there() -> None:
    assert assemble([{"role": "assistant", "content": "a"}, {}]) == {}


@pytest.mark.parametrize(
    ("deltas", "rule"),
    [
        ([{"tool_calls": []}], "empty list"),
        ([{"tool_calls": [{"function": {}}]}], "index must be"),
        ([_delta(function={"arguments": "{"})], "first piece of a call"),
        ([_delta(id="a", function={"name": "f"})], "type must be"),
        ([_delta(id="a", type="function", function={"arguments": "{"})], "name must be"),
        ([SECOND], "one after the other"),
        ([HEAD, SECOND, _delta(function={"arguments": "{"})], "one after the other"),
        ([HEAD, HEAD], "id of a tool call must be whole"),
        ([HEAD, _delta(function={"name": "f"})], "name of a tool call must be whole"),
        ([HEAD, _delta(function={"arguments": {}})], "must be a string"),
        ([{"reasoning": 1}], "must be a string"),
    ],
)
def test_pieces_out_of_order_are_noticed(deltas: list[dict[str, Any]], rule: str) -> None:
    with pytest.raises(CheckFailed, match=rule):
        assemble(deltas)
