"""Each rule for streamed completions can fail: healthy chunks of vLLM 0.32, broken in one place."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Request, Stream
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers import read_stream

VLLM = Dialect((0, 32))
Chunks = list[dict[str, Any]]
CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}
ASKED = {
    "model": "m",
    "prompt": "Hi",
    "max_tokens": 3,
    "temperature": 0,
    "logprobs": 1,
    "return_token_ids": True,
    "stream": True,
    "stream_options": CONTINUOUS,
}


def chunk(at: int, text: str, finish: str | None = None) -> dict[str, Any]:
    choice = {
        "index": 0,
        "text": text,
        "logprobs": {
            "text_offset": [at],
            "token_logprobs": [-0.9],
            "tokens": [text],
            "top_logprobs": [{text: -0.9}],
        },
        "finish_reason": finish,
        "stop_reason": None,
        "prompt_token_ids": None if at else [0, 80, 113],
        "token_ids": [114 + at],
    }
    return {**HEAD, "choices": [choice], "usage": counts(at + 1)}


def counts(completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": 3,
        "completion_tokens": completion,
        "total_tokens": 3 + completion,
    }


HEAD = {
    "id": "cmpl-8bf88b7209296c8e",
    "object": "text_completion",
    "created": int(time.time()),
    "model": "m",
}


def healthy() -> Chunks:
    last = {**HEAD, "choices": [], "usage": counts(3), "system_fingerprint": "f"}
    return [chunk(0, "j"), chunk(1, "k"), chunk(2, "l", "length"), last]


def stream(chunks: Chunks, **fields: Any) -> Stream:
    request = Request("POST", "/v1/completions", ASKED).but(**fields)
    headers = {"content-type": "text/event-stream"}
    return Stream(request, "curl", 200, headers, tuple(chunks), tuple(0.0 for _ in chunks))


def test_healthy_chunks_add_up_to_the_answer() -> None:
    whole = read_stream(stream(healthy()), VLLM).whole
    assert whole is not None
    [choice] = whole.json["choices"]
    assert (choice["text"], choice["token_ids"]) == ("jkl", [114, 115, 116])
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    assert whole.json["usage"] == counts(3)


def test_several_tokens_may_come_in_one_chunk() -> None:
    first, second, *rest = healthy()
    one, two = first["choices"][0], second["choices"][0]
    for name in ("text", "token_ids"):
        one[name] += two[name]
    for name, entries in two["logprobs"].items():
        one["logprobs"][name] += entries
    read_stream(stream([{**first, "usage": second["usage"]}, *rest]), VLLM)


def part(at: int, **fields: Any) -> Callable[[Chunks], object]:
    return lambda chunks: chunks[at]["choices"][0].update(fields)


def use(at: int, **fields: Any) -> Callable[[Chunks], object]:
    return lambda chunks: chunks[at]["usage"].update(fields)


def swap(chunks: Chunks) -> None:
    chunks[0], chunks[1] = chunks[1], chunks[0]


def merge(chunks: Chunks) -> None:
    chunks[0]["choices"] += chunks.pop(1)["choices"]


@pytest.mark.parametrize(
    ("break_it", "fields", "rule"),
    [
        (lambda c: c.clear(), {}, "must have chunks"),
        (lambda c: c[1].update(id="cmpl-8bf88b7209296c8f"), {}, "same id"),
        (lambda c: c[1].update(created=c[0]["created"] - 1), {}, "same created"),
        (lambda c: c[1].update(model="x"), {}, "`model`"),
        (lambda c: c[1].update(system_fingerprint="g"), {}, "same system_fingerprint"),
        (lambda c: c[1].update(object="chat.completion.chunk"), {}, "object"),
        (merge, {}, "at most one part of each choice"),
        (swap, {}, "must not fall"),
        (lambda c: c.pop(0), {}, "text_offset"),
        (lambda c: c.pop(1), {}, "text_offset"),
        (lambda c: c.insert(1, copy.deepcopy(c[1])), {}, "text_offset"),
        (part(0, index=1), {}, "finish_reason"),
        (part(2, finish_reason=None), {}, "exactly one finish_reason"),
        (part(1, finish_reason="stop"), {}, "exactly one finish_reason"),
        (part(1, stop_reason="k"), {}, "come with the finish_reason"),
        (part(1, text=None), {}, "text must be"),
        (part(1, logprobs=None), {}, "logprobs of its text"),
        (part(1, token_ids=None), {}, "token_ids of its text"),
        (part(1, token_ids=[115, 115]), {}, "exactly its own tokens"),
        (part(1, prompt_token_ids=[0, 80, 113]), {}, "Only the first chunk"),
        (lambda c: None, {"logprobs": ...}, "no logprobs"),
        (lambda c: None, {"return_token_ids": ...}, "unasked"),
        (lambda c: None, {"stream_options": ...}, "no chunk must have usage"),
        (lambda c: None, {"stream_options": {"include_usage": True}}, "only the last chunk"),
        (lambda c: c.pop(), {}, "only the last chunk"),
        (lambda c: c.insert(1, {**c[3]}), {}, "must have no choices"),
        (lambda c: c[1].pop("usage"), {}, "every chunk must have usage"),
        (use(0, completion_tokens=3, total_tokens=6), {}, "must not fall"),
        (use(2, completion_tokens=2, total_tokens=5), {}, "last counts"),
        (use(0, prompt_tokens=4, total_tokens=5), {}, "stay the same"),
        (use(3, total_tokens=7), {}, "total_tokens"),
    ],
)
def test_broken_chunks_are_caught(
    break_it: Callable[[Chunks], object], fields: dict[str, Any], rule: str
) -> None:
    chunks = healthy()
    break_it(chunks)
    with pytest.raises(CheckFailed) as caught:
        read_stream(stream(chunks, **fields), VLLM)
    assert rule in str(caught.value)


def test_an_empty_chunk_without_usage_is_caught() -> None:
    chunks = [{k: v for k, v in c.items() if k != "usage"} for c in healthy()]
    with pytest.raises(CheckFailed, match="every chunk must have choices"):
        read_stream(stream(chunks, stream_options=...), VLLM)
    read_stream(stream(chunks[:-1], stream_options=...), VLLM)
