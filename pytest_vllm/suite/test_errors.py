"""Errors whose cause is not one field: unknown models, bodies that are no JSON, long prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.errors import message_of
from pytest_vllm.suite.ask_for import chat, completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

_JSON = {"Content-Type": "application/json"}

#: Endpoint -> the capability that it needs, and a good body.
ENDPOINTS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/completions": ("generation", {"prompt": "Hello", "max_tokens": 2}),
    "/v1/chat/completions": (
        "chat",
        {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2},
    ),
    "/tokenize": ("tokenize", {"prompt": "Hello"}),
    "/detokenize": ("detokenize", {"tokens": [1]}),
    "/v1/embeddings": ("embeddings", {"input": "Hello"}),
}

#: Bodies that are no object. The second is whether FastAPI answers, before vLLM is asked.
BODIES: dict[str, tuple[bytes, bool]] = {
    "broken JSON": (b'{"model": ', False),
    "an empty body": (b"", False),
    "text after the JSON": (b'{"model": "m"} and more', False),
    "single quotes": (b"{'model': 'm'}", False),
    "a list": (b"[]", False),
    "a string": (b'"x"', False),
    "a number": (b"5", False),
    "null": (b"null", False),
    "true": (b"true", False),
    "a trailing comma": (b'{"model": "m", "max_tokens": 1,}', False),
    "bytes that are not UTF-8": (b'{"prompt": "\xff\xfe\xfa"}', True),
    "100000 brackets": (b"[" * 100_000, True),
    "an integer of 5000 digits": (b'{"max_tokens": ' + b"9" * 5000 + b"}", True),
}


def _needs(api: Api, path: str) -> dict[str, Any]:
    """The good body of an endpoint that the server has."""
    capability, body = ENDPOINTS[path]
    if not api.has(capability):
        api.unsupported(api.server.capabilities.why_not(capability))
    return {"model": api.model, **body}


@pytest.mark.core
@pytest.mark.endpoint("POST (every endpoint)")
@pytest.mark.source("OpenAI reference (errors)")
@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("body", BODIES)
def test_a_body_is_refused_that_is(api: Api, path: str, body: str) -> None:
    _needs(api, path)
    content, plain = BODIES[body]
    request = Request("POST", path, headers=_JSON, content=content)
    status = 400 if api.dialect.is_vllm else _status_of_another(api, request)
    api.refused(request, status=status, plain=plain or not api.dialect.is_vllm)


def _status_of_another(api: Api, request: Request) -> int:
    """Other servers may say 422 or 415, too; only 400 to 499 will do."""
    status = api.send(request).status
    return status if 400 <= status < 500 else 400


@pytest.mark.core
@pytest.mark.endpoint("POST (every endpoint)")
@pytest.mark.source("vLLM test_chat.py (NaN); RFC 8259")
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_number_must_be_finite(api: Api, number: str) -> None:
    _needs(api, "/v1/completions")
    content = b'{"prompt": "x", "max_tokens": 1, "temperature": %b}' % number.encode()
    request = Request("POST", "/v1/completions", headers=_JSON, content=content)
    api.refused(request, param="temperature")


@pytest.mark.core
@pytest.mark.endpoint("POST (every endpoint)")
@pytest.mark.source("OpenAI reference (errors: model_not_found)")
@pytest.mark.parametrize("path", ENDPOINTS)
@pytest.mark.parametrize("name", ["no/such-model", "another case", "a part of the name", "lines"])
def test_an_unknown_model_is_not_found(api: Api, path: str, name: str) -> None:
    body = _needs(api, path)
    names = {"another case": api.model.swapcase(), "a part of the name": api.model[:-1]}
    asked = names.get(name, "two\r\nInjected: lines" if name == "lines" else name)
    request = Request("POST", path, {**body, "model": asked})
    if not api.dialect.is_vllm and api.send(request).status == 200:
        api.unsupported("this server does not look at `model`")
    # 0.32 names no field for an embedding model.
    param = None if path == "/v1/embeddings" else "model"
    # vLLM leaves paths out of its messages.
    named = api.dialect.is_vllm and not asked.startswith("/")
    api.refused(request, status=404, param=param, says=[asked] if named else [])
    if path in ("/v1/completions", "/v1/chat/completions"):
        api.refused(request.but(stream=True), status=404, param=param)


# --- the context -----------------------------------------------------------------------------


def _limit(api: Api) -> int:
    """The length of the context, from the list of models."""
    models = api.once("models", lambda: api.ask(Request("GET", "/v1/models"))).json["data"]
    limit = next((m.get("max_model_len") for m in models if m["id"] == api.model), None)
    if not isinstance(limit, int):
        api.unsupported("GET /v1/models says no max_model_len")
    if limit > 20_000:
        api.unsupported(f"a context of {limit} tokens costs too much to fill")
    return limit


def _some_token(api: Api) -> int:
    """Any token of the vocabulary that is a plain one."""
    if not api.has("tokenize"):
        api.unsupported(api.server.capabilities.why_not("tokenize"))
    body = {"model": api.model, "prompt": "one one one", "add_special_tokens": False}
    return int(api.ask(Request("POST", "/tokenize", body)).json["tokens"][-1])


def _says_limit(answer: Answer, limit: int) -> None:
    message = message_of(answer)
    must(
        str(limit) in message,
        "A refusal for length must name the limit",
        expected=Text(str(limit)),
        seen=message,
    )


@pytest.mark.alone  # fills a whole step of the engine: see test_prefix_cache
@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.source("vLLM docs (max_model_len); llama.cpp test_completion context_size_exceeded")
def test_a_prompt_of_the_whole_context_but_one_token_is_answered(api: Api) -> None:
    limit, token = _limit(api), _some_token(api)
    request = completion(api.model, [token] * (limit - 1), max_tokens=1, ignore_eos=True)
    usage = api.ask(request).json["usage"]
    seen = (usage["prompt_tokens"], usage["completion_tokens"])
    assert seen == (limit - 1, 1), f"usage must count {limit - 1} and 1, not {seen}"
    whole = api.whole(request.but(stream=True))
    assert whole.json["choices"][0]["finish_reason"] == "length"


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("beyond", ["by one token", "twice", "a text", "in a batch"])
def test_a_prompt_is_refused_that_exceeds_the_context(
    api: Api, beyond: str, streamed: bool
) -> None:
    limit, token = _limit(api), _some_token(api)
    prompt: Any = {
        "by one token": [token] * (limit + 1),
        "twice": [token] * (2 * limit),
        "a text": " one" * (20 * limit),
        "in a batch": [[token], [token] * (limit + 1)],
    }[beyond]
    request = completion(api.model, prompt, max_tokens=1)
    answer = api.refused(request.but(stream=True) if streamed else request, late=streamed)
    answer.check(lambda a: _says_limit(a, limit))
    must(len(answer.content) < 2000, "A refusal must not repeat the prompt", seen=answer.text[:200])


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_prompt_is_refused_that_leaves_no_room(api: Api, streamed: bool) -> None:
    request = completion(api.model, [_some_token(api)] * _limit(api), max_tokens=1)
    api.refused(request.but(stream=True) if streamed else request)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
def test_the_refusal_of_a_prompt_that_leaves_no_room_names_the_limit(api: Api) -> None:
    limit = _limit(api)
    answer = api.refused(completion(api.model, [_some_token(api)] * limit, max_tokens=1))
    answer.check(lambda a: _says_limit(a, limit))


@pytest.mark.alone  # fills a whole step of the engine: see test_prefix_cache
@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.source("vLLM docs (max_model_len)")
@pytest.mark.parametrize("room", [1, 4])
def test_an_answer_never_exceeds_the_context(api: Api, room: int) -> None:
    """More max_tokens than there is room for are refused, or cut to it."""
    limit, token = _limit(api), _some_token(api)
    prompt = [token] * (limit - room)
    request = completion(api.model, prompt, max_tokens=room + 1, ignore_eos=True)
    answer = api.send(request)
    if answer.status != 200:
        answer = api.refused(request)
        answer.check(lambda a: _says_limit(a, limit))
        return
    usage, choice = answer.json["usage"], answer.json["choices"][0]
    must(
        (usage["completion_tokens"], choice["finish_reason"]) == (room, "length"),
        "max_tokens must be cut to what the context has room for",
        expected=[room, "length"],
        seen=[usage["completion_tokens"], choice["finish_reason"]],
    )


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
def test_more_max_tokens_than_the_context_has_are_refused(api: Api) -> None:
    limit = _limit(api)
    answer = api.refused(completion(api.model, "Hello", max_tokens=limit + 1), says=["max_tokens"])
    answer.check(lambda a: _says_limit(a, limit))


@pytest.mark.optional
@pytest.mark.chat_model
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/chat/completions")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_chat_is_refused_that_exceeds_the_context(api: Api, streamed: bool) -> None:
    api.once("can chat", lambda: api.ask(chat(api.model, "Hello", max_tokens=1)).status)
    limit = _limit(api)
    for request in (
        chat(api.model, " one" * (20 * limit), max_tokens=1),
        chat(api.model, " one" * limit, max_tokens=1),
        chat(api.model, max_tokens=limit + 1),
    ):
        answer = api.refused(request.but(stream=True) if streamed else request)
        answer.check(lambda a: _says_limit(a, limit))


# --- size and words --------------------------------------------------------------------------


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.source("vLLM test_error_sanitization")
@pytest.mark.parametrize("field", ["temperature", "max_tokens", "stream", "seed"])
def test_a_long_wrong_value_is_not_repeated(api: Api, field: str) -> None:
    request = completion(api.model, "Hello").but(**{field: "x" * 100_000})
    answer = api.refused(request, param=field)
    must(
        len(answer.content) < 10_000,
        "A refusal must not repeat a long value",
        seen=Text(f"{len(answer.content)} bytes"),
    )


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
def test_a_prompt_of_a_megabyte_is_refused_for_its_length(api: Api) -> None:
    limit = _limit(api)
    answer = api.refused(completion(api.model, "one two " * 131_072))
    answer.check(lambda a: _says_limit(a, limit))
    must(len(answer.content) < 2000, "A refusal must not repeat the prompt", seen=answer.text[:200])


@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.requires("vllm")
def test_half_a_surrogate_is_refused(api: Api) -> None:
    content = b'{"prompt": "a \\ud800 b", "max_tokens": 1}'
    api.refused(Request("POST", "/v1/completions", headers=_JSON, content=content))
