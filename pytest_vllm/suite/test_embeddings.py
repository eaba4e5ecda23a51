"""POST /v1/embeddings, and /pooling, /score, /rerank beside it. The shape is in the reader.

On a server that generates text these must be refused like any unknown page.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.embeddings import norm, vectors
from pytest_vllm.client.shapes import NUMBER, conform, exactly
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.embedding import TOLERANCE, embedding

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.endpoint("POST /v1/embeddings"),
    pytest.mark.source("OpenAI reference (embeddings); vLLM docs (pooling models)"),
]
embeds = pytest.mark.requires("embeddings")
embeds_in_vllm = pytest.mark.requires("embeddings", "vllm")

INPUTS = ["one two three", "Monday", "你好", "The quick brown fox jumps over the lazy dog."]

#: How far numbers of two batches may be apart: bfloat16, of vectors of length 1.
SAME = 2e-2


def _request(api: Api, given: Any, **more: Any) -> Request:
    return Request("POST", "/v1/embeddings", {"model": api.model, "input": given, **more})


def _embed(api: Api, given: Any, **more: Any) -> list[list[float]]:
    return vectors(api.ask(_request(api, given, **more)))


def _same(left: list[float], right: list[float], rule: str, limit: float = SAME) -> None:
    must(len(left) == len(right), rule, expected=len(left), seen=len(right))
    worst = max(abs(a - b) for a, b in zip(left, right, strict=True))
    must(worst <= limit * max(norm(left), 1e-6), rule, seen=f"they are {worst:.2g} apart")


def _distance(left: list[float], right: list[float]) -> float:
    return math.dist(left, right)


@embeds
def test_a_text_has_an_embedding(api: Api) -> None:
    (found,) = _embed(api, INPUTS[0])
    must(any(found), "An embedding must not be all zeros", seen=found[:4])


@embeds_in_vllm
def test_an_embedding_has_length_one(api: Api) -> None:
    for found in _embed(api, INPUTS):
        must(abs(norm(found) - 1) < 1e-2, "An embedding must have length 1", seen=norm(found))


@embeds
def test_a_text_always_has_the_same_embedding(api: Api) -> None:
    first, *others = api.together(*[lambda: _embed(api, INPUTS[3])[0]] * 4)
    for other in others:
        _same(first, other, "A text must always have the same embedding")


@embeds
def test_different_texts_have_different_embeddings(api: Api) -> None:
    found = _embed(api, INPUTS)
    for at, left in enumerate(found):
        for right in found[:at]:
            apart = _distance(left, right)
            must(apart > 1e-3, "Different texts must have different embeddings", seen=apart)


@embeds
def test_a_batch_is_embedded_as_its_texts_are(api: Api) -> None:
    batch = _embed(api, INPUTS)
    for text, in_batch in zip(INPUTS, batch, strict=True):
        (alone,) = _embed(api, text)
        _same(alone, in_batch, f"{text!r} must have the same embedding alone and in a batch")


@embeds
def test_a_batch_keeps_its_order(api: Api) -> None:
    there, back = _embed(api, INPUTS * 4), _embed(api, INPUTS[::-1] * 4)
    for left, right in zip(there, back[::-1], strict=True):
        _same(left, right, "The embeddings of a batch must be in the order of its inputs")


@embeds
def test_texts_that_occur_twice_have_one_embedding(api: Api) -> None:
    first, _, second = _embed(api, ["one", "two", "one"])
    _same(first, second, "The same text must have the same embedding in a batch")


@embeds
def test_base64_is_the_same_numbers(api: Api) -> None:
    numbers, binary = _embed(api, INPUTS), _embed(api, INPUTS, encoding_format="base64")
    floats = _embed(api, INPUTS, encoding_format="float")
    for default, other, asked in zip(numbers, binary, floats, strict=True):
        _same(default, other, "base64 must be the same numbers")
        _same(default, asked, "float must be the default")


@embeds_in_vllm
@pytest.mark.parametrize("given", [*INPUTS, INPUTS], ids=[*INPUTS, "a batch"])
def test_usage_counts_the_input(api: Api, given: Any) -> None:
    texts = [given] if isinstance(given, str) else given
    ask = [Request("POST", "/tokenize", {"model": api.model, "prompt": text}) for text in texts]
    expected = sum(api.ask(request).json["count"] for request in ask)
    seen = api.ask(_request(api, given)).json["usage"]["prompt_tokens"]
    must(
        seen == expected,
        "usage.prompt_tokens must be what /tokenize counts",
        expected=expected,
        seen=seen,
    )


@embeds_in_vllm
def test_tokens_are_embedded_as_their_text(api: Api) -> None:
    ids = [_ids(api, text) for text in INPUTS]
    by_text, by_ids = _embed(api, INPUTS), _embed(api, ids)
    (alone,) = _embed(api, ids[0])
    for left, right in zip(by_text, by_ids, strict=True):
        _same(left, right, "The tokens of a text must have the embedding of the text")
    _same(by_text[0], alone, "The tokens of a text must have the embedding of the text")


def _ids(api: Api, text: str) -> list[int]:
    body = {"model": api.model, "prompt": text}
    return list(api.ask(Request("POST", "/tokenize", body)).json["tokens"])


@embeds_in_vllm
def test_a_text_is_cut_where_asked(api: Api) -> None:
    ids = _ids(api, INPUTS[3])
    cut = api.ask(_request(api, INPUTS[3], truncate_prompt_tokens=3))
    must(
        cut.json["usage"]["prompt_tokens"] == 3,
        "truncate_prompt_tokens must cut the text",
        expected=3,
        seen=cut.json["usage"],
    )
    ways = [_embed(api, ids[-3:])[0], _embed(api, ids[:3])[0]]
    closest = min(_distance(vectors(cut)[0], way) for way in ways)
    must(closest < SAME, "A cut text must be its first or its last tokens", seen=closest)


@embeds_in_vllm
def test_the_whole_context_is_embedded_and_no_more(api: Api) -> None:
    models = api.ask(Request("GET", "/v1/models")).json["data"]
    limit = next(model["max_model_len"] for model in models if model["id"] == api.model)
    if limit > 20_000:
        api.unsupported(f"a context of {limit} tokens costs too much to fill")
    token = _ids(api, "Monday")[-1]
    usage = api.ask(_request(api, [token] * limit)).json["usage"]
    must(usage["prompt_tokens"] == limit, "usage must count all", expected=limit, seen=usage)
    api.refused(_request(api, [token] * (limit + 1)), says=[str(limit)])
    api.refused(_request(api, " one" * (20 * limit)), says=[str(limit)])


BAD: dict[str, dict[str, Any]] = {
    "no input": {"input": ...},
    "input=null": {"input": None},
    "input=5": {"input": 5},
    "input=object": {"input": {"a": 1}},
    "input=[]": {"input": []},
    "input=[[]]": {"input": [[]]},
    "input of both kinds": {"input": [1, "a"]},
    "a negative token": {"input": [-1]},
    "a token outside of the vocabulary": {"input": [999_999_999]},
    "encoding_format=zzz": {"encoding_format": "zzz"},
    "encoding_format=5": {"encoding_format": 5},
    "dimensions=x": {"dimensions": "x"},
    "dimensions=0": {"dimensions": 0},
    "dimensions=-1": {"dimensions": -1},
    "truncate_prompt_tokens=-2": {"truncate_prompt_tokens": -2},
    "user=5": {"user": 5},
}


@embeds_in_vllm
@pytest.mark.parametrize("bad", BAD)
def test_an_input_is_refused_for(api: Api, bad: str) -> None:
    api.refused(_request(api, "Hello").but(**BAD[bad]))


@embeds_in_vllm
def test_fewer_dimensions_are_given_or_refused(api: Api) -> None:
    request = _request(api, INPUTS[0], dimensions=8)
    if api.send(request).status != 200:
        api.refused(request, says=["dimensions"])
        return
    (whole,), (cut,) = _embed(api, INPUTS[0]), vectors(api.ask(request))
    scale = norm(whole[:8])
    _same([number / scale for number in whole[:8]], cut, "Fewer dimensions must be the first ones")


@embeds_in_vllm
def test_a_chat_is_embedded(api: Api) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": api.model, "messages": messages}
    counted = api.send(Request("POST", "/tokenize", {**body, "add_generation_prompt": False}))
    if counted.status == 400:
        api.refused(Request("POST", "/v1/embeddings", body))
        return
    seen = api.ask(Request("POST", "/v1/embeddings", body)).json["usage"]["prompt_tokens"]
    must(
        seen == counted.json["count"],
        "usage must count the chat",
        expected=counted.json["count"],
        seen=seen,
    )


@embeds
@pytest.mark.requires("known-answer")
def test_embeddings_are_the_predicted_ones(api: Api) -> None:
    model = predictor(api.model)
    for text, seen in zip(INPUTS, _embed(api, INPUTS), strict=True):
        expected = embedding(model, model.encode(text))
        must(
            len(seen) == len(expected),
            "An embedding must be whole",
            expected=len(expected),
            seen=len(seen),
        )
        for at, (want, got) in enumerate(zip(expected, seen, strict=True)):
            if abs(want - got) > TOLERANCE * abs(want) + 1e-5:
                raise CheckFailed(
                    f"The embedding of {text!r} must be the predicted one; number {at} differs",
                    expected=want,
                    seen=got,
                )


# --- beside it -------------------------------------------------------------------------------


@embeds_in_vllm
@pytest.mark.requires("pooling")
@pytest.mark.endpoint("POST /pooling")
def test_pooling_gives_the_embedding(api: Api) -> None:
    body = {"model": api.model, "input": INPUTS[0]}
    pooled = api.ask(Request("POST", "/pooling", body)).json
    conform(pooled, {"object": exactly("list"), "data": [{"object": exactly("pooling")}]})
    _same(_embed(api, INPUTS[0])[0], pooled["data"][0]["data"], "/pooling must give the embedding")


@embeds_in_vllm
@pytest.mark.requires("score")
@pytest.mark.endpoint("POST /score")
def test_a_score_is_the_cosine_of_the_embeddings(api: Api) -> None:
    body = {"model": api.model, "text_1": INPUTS[0], "text_2": INPUTS}
    scores = api.ask(Request("POST", "/score", body)).json
    conform(scores, {"object": exactly("list"), "data": [{"score": NUMBER}]})
    seen = [entry["score"] for entry in scores["data"]]
    found = _embed(api, INPUTS)
    expected = [sum(a * b for a, b in zip(found[0], other, strict=True)) for other in found]
    _same(expected, seen, "A score must be the cosine of the two embeddings")


@embeds_in_vllm
@pytest.mark.requires("rerank")
@pytest.mark.endpoint("POST /rerank")
def test_the_best_document_comes_first(api: Api) -> None:
    body = {"model": api.model, "query": INPUTS[1], "documents": INPUTS}
    results = api.ask(Request("POST", "/rerank", body)).json["results"]
    scores = [result["relevance_score"] for result in results]
    must(scores == sorted(scores, reverse=True), "The best must come first", seen=scores)
    places = [result["index"] for result in results]
    must(sorted(places) == [0, 1, 2, 3], "Each document must be there once", seen=places)
    must(places[0] == 1, "The document that is the query must be the best", seen=places)
    first = api.ask(Request("POST", "/rerank", {**body, "top_n": 2})).json["results"]
    must(len(first) == 2, "top_n must limit the results", expected=2, seen=len(first))


@pytest.mark.requires("vllm")
@pytest.mark.parametrize("path", ["/v1/embeddings", "/pooling", "/score", "/rerank", "/classify"])
def test_what_the_model_cannot_do_is_refused(api: Api, path: str) -> None:
    """A generating model does not embed: that is no page, or no good request."""
    if f"POST {path}" in api.server.capabilities.endpoints:
        api.unsupported(f"the server has {path}")
    api.refused(Request("POST", path, {"model": api.model, "input": "x"}), status=404, plain=True)


@pytest.mark.requires("embeddings", "vllm")
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions", "/v1/responses"])
def test_an_embedding_model_writes_nothing(api: Api, path: str) -> None:
    if f"POST {path}" in api.server.capabilities.endpoints:
        api.unsupported(f"the server has {path}")
    body = {"model": api.model, "prompt": "x", "messages": [{"role": "user", "content": "x"}]}
    api.refused(Request("POST", path, body), status=404, plain=True)
