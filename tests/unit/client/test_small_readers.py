"""The readers of /v1/models, /tokenize, /detokenize and /v1/embeddings."""

from __future__ import annotations

import base64
import copy
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers import embeddings, models, tokenize

VLLM = Dialect((0, 32))
Spoil = Callable[[dict[str, Any]], object]

MODEL = {
    "id": "m",
    "object": "model",
    "created": 1795534360,
    "owned_by": "vllm",
    "root": "m",
    "parent": None,
    "max_model_len": 512,
    "permission": [
        {
            "id": "modelperm-1",
            "object": "model_permission",
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_view": True,
        }
    ],
}
MODELS = {"object": "list", "data": [MODEL]}
TOKENS = {"count": 2, "max_model_len": 512, "tokens": [0, 5], "token_strs": ["<s>", "a"]}
VECTOR = [0.6, -0.8]
EMBEDDINGS = {
    "id": "embd-8801bac16381fcb3",
    "object": "list",
    "created": 1795534360,
    "model": "m",
    "data": [
        {"index": 0, "object": "embedding", "embedding": VECTOR},
        {"index": 1, "object": "embedding", "embedding": VECTOR},
    ],
    "usage": {"prompt_tokens": 4, "total_tokens": 4, "completion_tokens": 0},
}


def answer(path: str, content: Any, body: dict[str, Any] | None = None) -> Answer:
    request = Request("GET" if body is None else "POST", path, body)
    headers = {"content-type": "application/json"}
    return Answer(request, "curl", 200, headers, json.dumps(content).encode())


def spoiled(good: dict[str, Any], spoil: Spoil) -> dict[str, Any]:
    copied = copy.deepcopy(good)
    spoil(copied)
    return copied


def test_a_good_list_of_models() -> None:
    models.read(answer("/v1/models", MODELS), VLLM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.update(object="models"),
        lambda body: body.update(data=[]),
        lambda body: body["data"].append(body["data"][0]),
        lambda body: body["data"][0].update(owned_by="openai"),
        lambda body: body["data"][0].update(max_model_len=None),
        lambda body: body["data"][0].update(max_model_len=0),
        lambda body: body["data"][0].update(max_model_len="512"),
        lambda body: body["data"][0].update(created=0),
        lambda body: body["data"][0].update(created=1795534360123),
        lambda body: body["data"][0].update(parent="no-such"),
        lambda body: body["data"][0].pop("root"),
        lambda body: body["data"][0].pop("permission"),
    ],
)
def test_a_spoiled_list_of_models(spoil: Spoil) -> None:
    with pytest.raises(CheckFailed):
        models.read(answer("/v1/models", spoiled(MODELS, spoil)), VLLM)


def test_good_tokens() -> None:
    body = {"prompt": "a", "return_token_strs": True}
    tokenize.read(answer("/tokenize", TOKENS, body), VLLM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.update(count=3),
        lambda body: body.update(tokens=[0, "5"]),
        lambda body: body.update(tokens=[0, -5]),
        lambda body: body.update(tokens=None),
        lambda body: body.update(token_strs=["<s>"]),
        lambda body: body.update(token_strs=None),
        lambda body: body.update(token_strs=[0, 5]),
        lambda body: body.pop("max_model_len"),
    ],
)
def test_spoiled_tokens(spoil: Spoil) -> None:
    body = {"prompt": "a", "return_token_strs": True}
    with pytest.raises(CheckFailed):
        tokenize.read(answer("/tokenize", spoiled(TOKENS, spoil), body), VLLM)


def test_strings_come_only_where_asked_for() -> None:
    with pytest.raises(CheckFailed, match="not asked for"):
        tokenize.read(answer("/tokenize", TOKENS, {"prompt": "a"}), VLLM)


def test_the_text_of_tokens_is_a_string() -> None:
    tokenize.read_text(answer("/detokenize", {"prompt": ""}, {"tokens": []}), VLLM)
    with pytest.raises(CheckFailed):
        tokenize.read_text(answer("/detokenize", {"prompt": None}, {"tokens": []}), VLLM)


BATCH = {"model": "m", "input": ["a", "b"]}


def test_good_embeddings() -> None:
    embeddings.read(answer("/v1/embeddings", EMBEDDINGS, BATCH), VLLM)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body.update(id="x"),
        lambda body: body.update(model="other"),
        lambda body: body.update(object="embeddings"),
        lambda body: body["data"].pop(),
        lambda body: body["data"].reverse(),
        lambda body: body["data"][1].update(index=0),
        lambda body: body["data"][1].update(embedding=[0.6]),
        lambda body: body["data"][1].update(embedding=[]),
        lambda body: body["data"][1].update(embedding=[None, 0.6]),
        lambda body: body["data"][1].update(embedding="AAAA"),
        lambda body: body["usage"].update(total_tokens=5),
        lambda body: body["usage"].update(prompt_tokens=0, total_tokens=0),
        lambda body: body["usage"].update(completion_tokens=1),
        lambda body: body.pop("usage"),
    ],
)
def test_spoiled_embeddings(spoil: Spoil) -> None:
    with pytest.raises(CheckFailed):
        embeddings.read(answer("/v1/embeddings", spoiled(EMBEDDINGS, spoil), BATCH), VLLM)


def test_base64_is_float32() -> None:
    text = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    assert embeddings.vector(text, "x", is_base64=True) == [0.5, -2.0]


@pytest.mark.parametrize("value", [VECTOR, "?", base64.b64encode(b"123").decode()])
def test_what_is_no_base64(value: Any) -> None:
    with pytest.raises(CheckFailed, match="base64"):
        embeddings.vector(value, "x", is_base64=True)


@pytest.mark.parametrize(
    ("given", "count"), [("a", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2]], 2), (None, 1)]
)
def test_inputs_are_counted(given: Any, count: int) -> None:
    request = Request("POST", "/v1/embeddings", {"input": given})
    assert len(embeddings.inputs_of(request)) == count
