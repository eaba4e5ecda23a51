"""Answers and streams of a chat, whole and broken in one place each."""

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

VLLM = Dialect((0, 32))
HEADERS = {"content-type": "application/json"}
Break = Callable[[Any], None]


def entry(token: str, logprob: float, *others: tuple[str, float]) -> dict[str, Any]:
    def one(text: str, value: float) -> dict[str, Any]:
        return {"token": text, "logprob": value, "bytes": list(text.encode())}

    top = [one(token, logprob), *(one(text, value) for text, value in others)]
    return {**one(token, logprob), "top_logprobs": top}


def asked(**more: Any) -> Request:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "max_tokens": 2,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
        "return_token_ids": True,
        **more,
    }
    return Request("POST", "/v1/chat/completions", body)


ENTRIES = [entry("Hi", -0.5, ("Ho", -1.5)), entry(" you", -0.1, (" me", -3.0))]

BODY: dict[str, Any] = {
    "id": "chatcmpl-0123456789abcdef",
    "object": "chat.completion",
    "created": 1795534983,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi you"},
            "logprobs": {"content": ENTRIES},
            "finish_reason": "length",
            "stop_reason": None,
            "token_ids": [7, 8],
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    "prompt_token_ids": [1, 2, 3],
}


def reading(change: Break = lambda body: None, **more: Any) -> None:
    body = copy.deepcopy(BODY)
    change(body)
    content = json.dumps(body).encode()
    read(Answer(asked(**more), "curl", 200, HEADERS, content), VLLM)


def choice(**fields: Any) -> Break:
    return lambda body: body["choices"][0].update(fields)


def message(**fields: Any) -> Break:
    return lambda body: body["choices"][0]["message"].update(fields)


def first(**fields: Any) -> Break:
    return lambda body: body["choices"][0]["logprobs"]["content"][0].update(fields)


def usage(completion: int) -> Break:
    counts = {"completion_tokens": completion, "total_tokens": 3 + completion}
    return lambda body: body["usage"].update(counts)


def test_a_good_answer_is_read() -> None:
    reading()


BROKEN: dict[str, tuple[Break, dict[str, Any]]] = {
    "role": (message(role="user"), {}),
    "content null": (message(content=None), {}),
    "content a list": (message(content=[]), {}),
    "refusal": (message(refusal=1), {}),
    "text of completions": (choice(text="Hi"), {}),
    "id": (lambda body: body.update(id="cmpl-0123456789abcdef"), {}),
    "object": (lambda body: body.update(object="text_completion"), {}),
    "model": (lambda body: body.update(model="x"), {}),
    "no choices": (lambda body: body.update(choices=[]), {}),
    "n lost": (lambda body: None, {"n": 2}),
    "finish_reason": (choice(finish_reason=None), {}),
    "a stop string in the content": (lambda body: None, {"stop": "yo"}),
    "a stop string not kept": (
        choice(finish_reason="stop", stop_reason="!"),
        {"stop": "!", "include_stop_str_in_output": True},
    ),
    "logprobs unasked": (lambda body: None, {"logprobs": None, "top_logprobs": None}),
    "logprobs missing": (choice(logprobs=None), {}),
    "logprobs of completions": (choice(logprobs={"tokens": []}), {}),
    "a token less": (lambda body: body["choices"][0]["logprobs"]["content"].pop(), {}),
    "bytes": (first(bytes=[72]), {}),
    "logprob above 0": (first(logprob=0.5), {}),
    "logprob a string": (first(logprob="-0.5"), {}),
    "logprob not that of the candidate": (first(logprob=-0.7), {}),
    "no top_logprobs": (first(top_logprobs=[]), {}),
    "unsorted": (
        first(token="Hi", top_logprobs=entry("A", -3.0, ("Hi", -0.5))["top_logprobs"]),
        {},
    ),
    "probabilities above 1": (first(**entry("Hi", -0.1, ("Ho", -0.2))), {}),
    "chosen not among the best": (
        first(top_logprobs=entry("A", -1.0, ("B", -2.0))["top_logprobs"]),
        {"temperature": 1},
    ),
    "not greedy": (first(**entry("Hi", -1.5, ("Ho", -0.5))), {}),
    "tokens of another text": (message(content="Hi me"), {}),
    "token_ids missing": (choice(token_ids=None), {}),
    "token_ids unasked": (lambda body: None, {"return_token_ids": None}),
    "token_ids lost": (choice(token_ids=[7]), {}),
    "prompt_token_ids lost": (lambda body: body.update(prompt_token_ids=[1, 2]), {}),
    "more than max_tokens": (usage(3), {}),
    "length before max_tokens": (lambda body: None, {"max_tokens": 3}),
    "max_completion_tokens ignored": (lambda body: None, {"max_completion_tokens": 1}),
    "prompt_logprobs unasked": (lambda body: body.update(prompt_logprobs=[None, {}, {}]), {}),
    "prompt_logprobs missing": (lambda body: None, {"prompt_logprobs": 0}),
    "prompt_logprobs short": (
        lambda body: body.update(prompt_logprobs=[None, {"2": {"logprob": -1.0}}]),
        {"prompt_logprobs": 0},
    ),
    "prompt_logprobs of another token": (
        lambda body: body.update(
            prompt_logprobs=[None, {"2": {"logprob": -1.0}}, {"9": {"logprob": -1.0}}]
        ),
        {"prompt_logprobs": 0},
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_is_caught(name: str) -> None:
    change, more = BROKEN[name]
    with pytest.raises(CheckFailed):
        reading(change, **more)


def test_the_chosen_token_may_stand_first_whatever_its_rank() -> None:
    top = entry("Hi", -2.0, ("Ho", -0.5))
    reading(first(**top), temperature=1)


def test_the_end_token_is_in_the_logprobs_and_not_in_the_text() -> None:
    def ended(body: Any) -> None:
        body["choices"][0]["logprobs"]["content"][1] = entry("</s>", -0.1, (" me", -3.0))
        body["choices"][0]["finish_reason"] = "stop"
        body["choices"][0]["message"]["content"] = "Hi"

    reading(ended)


def part(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {name: BODY[name] for name in ("id", "created", "model")}
    inner = {"index": 0, "delta": delta, "finish_reason": None, "logprobs": None, **more}
    return {**head, "object": "chat.completion.chunk", "choices": [inner]}


def chunks() -> list[dict[str, Any]]:
    start = part({"role": "assistant", "content": ""})
    start["prompt_token_ids"] = [1, 2, 3]
    return [
        start,
        part({"content": "Hi"}, logprobs={"content": ENTRIES[:1]}, token_ids=[7]),
        part(
            {"content": " you"},
            logprobs={"content": ENTRIES[1:]},
            token_ids=[8],
            finish_reason="length",
        ),
    ]


def streaming(change: Break = lambda chunks: None) -> Stream:
    found = copy.deepcopy(chunks())
    change(found)
    request = asked(stream=True)
    times = tuple(0.0 for _ in found)
    return read_stream(Stream(request, "curl", 200, {}, tuple(found), times), VLLM)


def test_a_stream_adds_up_to_the_answer() -> None:
    whole = streaming().whole
    assert whole is not None
    assert whole.json["choices"] == BODY["choices"]
    assert whole.json["prompt_token_ids"] == BODY["prompt_token_ids"]


def delta(at: int, **fields: Any) -> Break:
    return lambda chunks: chunks[at]["choices"][0]["delta"].update(fields)


def inner(at: int, **fields: Any) -> Break:
    return lambda chunks: chunks[at]["choices"][0].update(fields)


BROKEN_STREAMS: dict[str, Break] = {
    "no role": lambda chunks: chunks[0]["choices"][0]["delta"].pop("role"),
    "the role twice": delta(1, role="assistant"),
    "tool_calls null": delta(1, tool_calls=None),
    "no tool_calls": delta(1, tool_calls=[]),
    "content a number": delta(1, content=3),
    "a lost chunk": lambda chunks: chunks.pop(1),
    "a doubled chunk": lambda chunks: chunks.insert(1, chunks[1]),
    "swapped chunks": lambda chunks: chunks[1]["choices"].reverse() or chunks.reverse(),
    "lost text": lambda chunks: chunks[1]["choices"][0]["delta"].pop("content"),
    "lost logprobs": inner(1, logprobs=None),
    "lost ids": inner(1, token_ids=[]),
    "logprobs of completions": inner(1, logprobs={"tokens": ["Hi"]}),
    "a whole message": inner(1, message={"role": "assistant", "content": "Hi"}),
    "text of completions": inner(1, text="Hi"),
    "no finish_reason": inner(2, finish_reason=None),
    "finish_reason early": inner(1, finish_reason="length"),
    "no key finish_reason": lambda chunks: chunks[1]["choices"][0].pop("finish_reason"),
    "another index": inner(1, index=1),
    "another id": lambda chunks: chunks[1].update(id="chatcmpl-fedcba9876543210"),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
def test_a_broken_stream_is_caught(name: str) -> None:
    with pytest.raises(CheckFailed):
        streaming(BROKEN_STREAMS[name])
