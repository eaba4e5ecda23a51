"""Requests that no server may take: refused by name, whether streamed or not, and without harm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refused import refuse, still_well
from pytest_vllm.suite.ask_for import chat, completion
from pytest_vllm.suite.bad_requests import CHAT, COMPLETIONS, GENERATION, Bad

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Request

pytestmark = pytest.mark.source("OpenAI reference (parameters); vLLM docs (sampling parameters)")


def _refuse(api: Api, bad: Bad, good: Request) -> None:
    """Unstreamed, then streamed."""
    __tracebackhide__ = True
    request = bad.spoil(good)
    if not api.dialect.is_vllm and not bad.anywhere:
        seen = api.send(request)
        if seen.status == 200:
            api.unsupported(f"this server takes {bad.name}")
    param = bad.param if api.dialect.is_vllm else None
    if "stream_options" not in bad.fields:
        refuse(api, request, param=param)
    if "stream" not in bad.fields:
        # `prompt_logprobs` and a stream exclude each other, which may be found first.
        refuse(api, request.but(stream=True), param=param, late=bad.late)
    still_well(api)


@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
@pytest.mark.parametrize("bad", [*GENERATION, *COMPLETIONS], ids=str)
def test_a_completion_is_refused_for(api: Api, bad: Bad) -> None:
    _refuse(api, bad, completion(api.model, "Hello"))


@pytest.mark.optional
@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/chat/completions")
@pytest.mark.parametrize("bad", [*GENERATION, *CHAT], ids=str)
def test_a_chat_is_refused_for(api: Api, bad: Bad) -> None:
    api.once("can chat", lambda: api.ask(chat(api.model, "Hello", max_tokens=1)).status)
    _refuse(api, bad, chat(api.model, "Hello"))


@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
def test_every_wrong_key_of_logit_bias_is_named(api: Api) -> None:
    if not api.dialect.is_vllm:
        api.unsupported("only vLLM says so")
    request = completion(api.model, "Hello", logit_bias={"first": 1, "second": 1, "5": 1})
    api.refused(request, param="logit_bias", says=["first", "second"])


@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
def test_stream_options_need_a_stream(api: Api) -> None:
    if not api.dialect.is_vllm:
        api.unsupported("the reference only says that they are for streams")
    request = completion(api.model, "Hello", stream_options={"include_usage": True})
    api.refused(request, param="stream_options")


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions (stream)")
def test_prompt_logprobs_are_refused_for_a_stream(api: Api) -> None:
    request = completion(api.model, "Hello", prompt_logprobs=1, stream=True)
    api.refused(request, param="prompt_logprobs")


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions")
def test_several_greedy_choices_are_refused(api: Api) -> None:
    api.refused(completion(api.model, "Hello", n=2), says=["n must be 1"])


@pytest.mark.optional
@pytest.mark.chat_model
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/chat/completions")
@pytest.mark.parametrize("messages", [None, 5, [{"role": "user", "content": None}]], ids=str)
def test_a_chat_without_words_is_refused(api: Api, messages: Any) -> None:
    api.once("can chat", lambda: api.ask(chat(api.model, "Hello", max_tokens=1)).status)
    answer = api.send(chat(api.model).but(messages=messages))
    answer.check(
        lambda a: must(a.status == 400, "It must be refused with 400", expected=400, seen=a.status)
    )
    still_well(api)


@pytest.mark.optional
@pytest.mark.chat_model
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/chat/completions")
@pytest.mark.parametrize("messages", [None, 5], ids=str)
def test_the_refusal_of_what_is_no_list_of_messages_names_the_field(
    api: Api, messages: Any
) -> None:
    api.once("can chat", lambda: api.ask(chat(api.model, "Hello", max_tokens=1)).status)
    api.refused(chat(api.model).but(messages=messages), param="messages")


@pytest.mark.core
@pytest.mark.endpoint("POST /v1/completions")
def test_unknown_fields_are_ignored(api: Api) -> None:
    request = completion(api.model, "Hello", max_tokens=4)
    strange = request.but(pytest_vllm_unknown={"a": [1]}, another_unknown=None)
    known, seen = api.ask(request).json, api.ask(strange).json
    if known["choices"] != seen["choices"]:  # once more, for a near-tie under load
        assert api.ask(request).json["choices"] == api.ask(strange).json["choices"]
