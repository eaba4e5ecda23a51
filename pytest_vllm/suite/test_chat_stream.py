"""POST /v1/chat/completions, streamed: what the reader checks of every stream, provoked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_together import alike
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import chat, streamed
from pytest_vllm.suite.chats import CONVERSATIONS, talk
from pytest_vllm.suite.test_chat_prompt import PARAMETERS

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.endpoint("POST /v1/chat/completions (stream)"),
    pytest.mark.source("OpenAI API reference: chat, streaming"),
]

#: `stream_options`, and what they ask for.
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "null": {"stream_options": None},
    "include_usage": {"stream_options": {"include_usage": True}},
    "include_usage=false": {"stream_options": {"include_usage": False}},
}

_CONTINUOUS = {"include_usage": True, "continuous_usage_stats": True}


def test_an_answer_is_streamed(api: Api) -> None:
    api.stream(chat(api.model))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("n", [1, 2])
def test_usage_comes_where_stream_options_want_it(api: Api, name: str, n: int) -> None:
    some: dict[str, Any] = {"n": n, "temperature": 0.7} if n > 1 else {}
    request = chat(api.model, max_tokens=6, stream=True, **some, **OPTIONS[name])
    stream = api.stream(request)
    wanted = name == "include_usage"
    must(
        sum(1 for chunk in stream.chunks if chunk.get("usage")) == int(wanted),
        f"A stream with stream_options: {name} must have {int(wanted)} chunks with usage",
        seen=[chunk.get("usage") for chunk in stream.chunks],
    )


@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM docs: continuous_usage_stats")
@pytest.mark.parametrize("n", [1, 2])
def test_usage_comes_with_every_chunk_where_asked_for(api: Api, n: int) -> None:
    some: dict[str, Any] = {"n": n, "temperature": 0.7} if n > 1 else {}
    api.stream(streamed(chat(api.model, max_tokens=6, **some), **_CONTINUOUS))


def test_the_streamed_usage_is_the_unstreamed(api: Api) -> None:
    api.both(chat(api.model, "Count from one!", max_tokens=7))


@pytest.mark.parametrize("n", [1, 2])
def test_usage_is_no_part_of_what_is_said(api: Api, n: int) -> None:
    some: dict[str, Any] = {"n": n, "temperature": 0.7} if n > 1 else {}
    plain = chat(api.model, max_tokens=8, **some)
    alike(
        lambda: (api.whole(plain), api.whole(streamed(plain, include_usage=True))),
        "stream_options must change nothing but the usage",
        ignore=["usage"],
    )


@pytest.mark.requires("vllm")
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_means_the_same_in_a_stream(api: Api, name: str) -> None:
    request = talk(api, CONVERSATIONS["a question"], max_tokens=12, logprobs=True, top_logprobs=1)
    api.both(request.but(**PARAMETERS[name]))


@pytest.mark.parametrize("top", [None, 0, 1, 5])
def test_streamed_logprobs_are_the_unstreamed(api: Api, top: int | None) -> None:
    more = {} if top is None else {"top_logprobs": top}
    api.both(chat(api.model, "Please say unicode", max_tokens=12, logprobs=True, **more))


@pytest.mark.parametrize("max_tokens", [1, 2, 3])
def test_a_stream_of_few_tokens_is_whole(api: Api, max_tokens: int) -> None:
    api.both(chat(api.model, "Count from one!", max_tokens=max_tokens))
