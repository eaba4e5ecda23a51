"""POST /v1/chat/completions. On a base model the server must refuse these, politely.

Each request is asked whole and streamed; the stream must add up to the whole answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks import chat_text, says_something
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refused import refuse
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.chats import CONVERSATIONS, content, same, talk, template_takes

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("OpenAI API reference: chat"),
]

chat_model = pytest.mark.chat_model


@chat_model
def test_a_question_is_answered(api: Api) -> None:
    answer = api.ask(chat(api.model, max_tokens=32)).check(says_something)
    api.note(f"reply: {chat_text(answer)!r}")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_model_without_a_chat_template_refuses_chats_by_name(api: Api, stream: bool) -> None:
    if api.has("chat"):
        api.unsupported("the model has a chat template")
    refuse(api, chat(api.model, stream=stream), says=["chat template"])


@chat_model
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_is_answered_alike_whole_and_streamed(api: Api, name: str) -> None:
    template_takes(api, CONVERSATIONS[name])
    api.both(talk(api, CONVERSATIONS[name], max_tokens=8, logprobs=True, top_logprobs=2))


#: What OpenAI's reference names, and has no effect on a greedy answer.
NEUTRAL: dict[str, dict[str, Any]] = {
    "max_completion_tokens is the newer max_tokens": {
        "max_tokens": ...,
        "max_completion_tokens": 10,
    },
    "max_completion_tokens wins": {"max_tokens": 3, "max_completion_tokens": 10},
    "n=1": {"n": 1},
    "top_p=1": {"top_p": 1},
    "penalties of 0": {"presence_penalty": 0, "frequency_penalty": 0},
    "empty logit_bias": {"logit_bias": {}},
    "empty stop": {"stop": []},
    "a stop that never comes": {"stop": ["\u2603\u2603\u2603"]},
    "no tools": {"tool_choice": "none"},
    "response_format text": {"response_format": {"type": "text"}},
    "logprobs=false": {"logprobs": False},
    "another seed, at temperature 0": {"seed": 12345},
    "user": {"user": "ada"},
    "metadata": {"metadata": {"run": "7"}},
    "store": {"store": False},
    "parallel_tool_calls": {"parallel_tool_calls": False},
    "service_tier": {"service_tier": "auto"},
    "temperature as 0.0": {"temperature": 0.0},
    "an unknown field": {"no_such_field": [1]},
}

#: Optional fields for which null must be the same as leaving them out.
NULLABLE = (
    *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "n", "stop"),
    *("presence_penalty", "response_format", "stream", "stream_options", "top_logprobs", "top_p"),
    *("tools", "tool_choice", "user", "metadata", "store"),
)

#: The same for what vLLM adds.
VLLM_NEUTRAL: dict[str, dict[str, Any]] = {
    "top_k=0": {"top_k": 0},
    "top_k=-1": {"top_k": -1},
    "min_p=0": {"min_p": 0},
    "repetition_penalty=1": {"repetition_penalty": 1.0},
    "min_tokens=0": {"min_tokens": 0},
    "ignore_eos=false": {"ignore_eos": False},
    "no stop_token_ids": {"stop_token_ids": []},
    "echo=false": {"echo": False},
    "add_generation_prompt=true": {"add_generation_prompt": True},
    "add_special_tokens=false": {"add_special_tokens": False},
    "chat_template_kwargs": {"chat_template_kwargs": {"no_such_variable": 1}},
    "greedy by top_k=1": {"temperature": 1.7, "top_k": 1},
    "greedy by min_p=1": {"temperature": 1.7, "min_p": 1.0},
    "greedy by a tiny top_p": {"temperature": 0.7, "top_p": 1e-6},
    "nulls": dict.fromkeys(["top_k", "min_p", "repetition_penalty", "stop_token_ids", "seed"]),
}


@chat_model
@pytest.mark.parametrize("name", NEUTRAL)
def test_a_field_without_effect_changes_nothing(api: Api, name: str) -> None:
    plain = chat(api.model, max_tokens=10)
    same(api, plain, plain.but(**NEUTRAL[name]), f"{name!r} must change nothing")


@chat_model
@pytest.mark.parametrize("field", NULLABLE)
def test_null_is_the_same_as_leaving_a_field_out(api: Api, field: str) -> None:
    plain = chat(api.model, max_tokens=10)
    same(api, plain, plain.but(**{field: None}), f"{field}=null must be as if it were left out")


@chat_model
@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM docs: extra parameters of chat")
@pytest.mark.parametrize("name", VLLM_NEUTRAL)
def test_a_vllm_field_without_effect_changes_nothing(api: Api, name: str) -> None:
    plain = chat(api.model, max_tokens=10)
    same(api, plain, plain.but(**VLLM_NEUTRAL[name]), f"{name!r} must change nothing")


@chat_model
def test_a_string_and_one_text_part_say_the_same(api: Api) -> None:
    part = [{"type": "text", "text": "What comes after Monday?"}]
    plain = chat(api.model, "What comes after Monday?", logprobs=True, top_logprobs=2)
    same(
        api,
        plain,
        plain.but(messages=[{"role": "user", "content": part}]),
        "A text part must be read as the string",
    )


@chat_model
def test_every_answer_has_an_id_of_its_own(api: Api) -> None:
    request = chat(api.model, max_tokens=1)
    ids = [api.ask(request).json["id"], api.ask(request).json["id"], api.whole(request).json["id"]]
    must(len(set(ids)) == len(ids), "Every answer must have an id of its own", seen=ids)


@chat_model
def test_a_prompt_grows_with_each_turn(api: Api) -> None:
    messages: list[Any] = [{"role": "user", "content": "Count from one!"}]
    sizes = []
    for _ in range(3):
        answer = api.ask(talk(api, messages, max_tokens=6))
        sizes.append(answer.json["usage"]["prompt_tokens"])
        messages += [
            {"role": "assistant", "content": content(answer) or "Well"},
            {"role": "user", "content": "Go on, and on, and on!"},
        ]
    must(
        sizes[0] < sizes[1] < sizes[2],
        "usage.prompt_tokens must grow with each turn of the chat",
        seen=sizes,
    )
