"""What the model reads of a chat: the prompt that the template makes of its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_together import alike
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refused import refuse
from pytest_vllm.suite.chats import (
    CONVERSATIONS,
    as_completion,
    content,
    talk,
    template_takes,
    tokens,
)
from pytest_vllm.suite.facts import context_length, tokens_of

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("vllm"),
    pytest.mark.requires("tokenize"),
    pytest.mark.endpoint("POST /v1/chat/completions"),
    pytest.mark.source("vLLM docs: tokenizer API and chat templates"),
]

#: The template's own switches.
SWITCHES: dict[str, dict[str, Any]] = {
    "continue_final_message": {"continue_final_message": True, "add_generation_prompt": False},
    "add_generation_prompt=false": {"add_generation_prompt": False},
    "add_special_tokens": {"add_special_tokens": True},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_prompt_is_the_one_that_tokenize_shows(api: Api, name: str) -> None:
    messages = CONVERSATIONS[name]
    template_takes(api, messages)
    ids = tokens(api, messages)
    _has_prompt(api.ask(talk(api, messages, max_tokens=1, return_token_ids=True)), ids)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_of_the_template_makes_the_prompt_that_tokenize_shows(api: Api, name: str) -> None:
    messages = [*CONVERSATIONS["a question"], {"role": "assistant", "content": "After it"}]
    template_takes(api, messages)
    ids = tokens(api, messages, **SWITCHES[name])
    request = talk(api, messages, max_tokens=1, return_token_ids=True, **SWITCHES[name])
    _has_prompt(api.ask(request), ids)


def _has_prompt(answer: Answer, ids: Sequence[int]) -> None:
    __tracebackhide__ = True

    def check(answer: Answer) -> None:
        seen = answer.json["prompt_token_ids"]
        must(
            seen == ids,
            "The prompt of a chat must be the one that /tokenize shows",
            expected=ids,
            seen=seen,
        )
        must(
            answer.json["usage"]["prompt_tokens"] == len(ids),
            "usage.prompt_tokens must be the count of /tokenize",
            expected=len(ids),
            seen=answer.json["usage"]["prompt_tokens"],
        )

    answer.check(check)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_chat_is_answered_as_its_prompt_is_completed(api: Api, name: str) -> None:
    messages = CONVERSATIONS[name]
    template_takes(api, messages)
    request = talk(api, messages, max_tokens=8, logprobs=True, top_logprobs=3)
    completed_alike(api, request)


def completed_alike(api: Api, request: Request) -> None:
    """A chat, and the completion of its prompt with the same parameters, must say the same."""
    __tracebackhide__ = True
    ids = tokens(api, (request.body or {})["messages"])
    other = as_completion(request, ids)
    alike(
        lambda: (api.ask(other), api.ask(request)),
        "A chat must be answered as the completion of its prompt is",
        told=told,
    )


def told(answer: Answer) -> dict[str, Any]:
    """What both endpoints say, in the same words."""
    body = answer.json
    return {
        "choices": [_told(choice) for choice in body["choices"]],
        "usage": _counts(body["usage"]),
    }


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    """The token counts; only chat knows how many of them are thoughts."""
    return {name: count for name, count in usage.items() if isinstance(count, int)}


def _told(choice: Mapping[str, Any]) -> dict[str, Any]:
    logprobs = choice.get("logprobs") or {}
    if "message" in choice:
        said, entries = choice["message"], logprobs.get("content", [])
        text = f"{said.get('reasoning') or ''}{said['content'] or ''}"
        chosen = [(entry["token"], entry["logprob"]) for entry in entries]
    else:
        text = choice["text"]
        chosen = list(
            zip(logprobs.get("tokens", []), logprobs.get("token_logprobs", []), strict=True)
        )
    ends = {name: choice[name] for name in ("finish_reason", "stop_reason", "token_ids")}
    return {
        "text": text,
        "tokens": [token for token, _ in chosen],
        "logprobs": [value for _, value in chosen],
        **ends,
    }


#: Parameters that must mean the same on both endpoints.
PARAMETERS: dict[str, dict[str, Any]] = {
    "temperature and seed": {"temperature": 1.3, "seed": 3},
    "top_k": {"temperature": 2.0, "seed": 4, "top_k": 3},
    "top_p": {"temperature": 2.0, "seed": 5, "top_p": 0.2},
    "min_p": {"temperature": 2.0, "seed": 6, "min_p": 0.3},
    "presence_penalty": {"presence_penalty": 2.0},
    "frequency_penalty": {"frequency_penalty": 2.0},
    "repetition_penalty": {"repetition_penalty": 1.8},
    "negative penalties": {"presence_penalty": -2.0, "frequency_penalty": -2.0},
    "logit_bias": {"logit_bias": {"40": 100}},
    "bad_words": {"bad_words": ["e", "f", "t", "m"]},
    "allowed_token_ids": {"allowed_token_ids": [40, 41, 42, 43]},
    "min_tokens and stop": {"min_tokens": 5, "stop": ["e", "m", "o", " "]},
    "stop": {"stop": ["e", "m", "o", " "]},
    "include_stop_str_in_output": {"stop": ["m", " "], "include_stop_str_in_output": True},
    "ignore_eos": {"ignore_eos": True, "max_tokens": 40},
    "skip_special_tokens": {"skip_special_tokens": False, "ignore_eos": True, "max_tokens": 40},
    "n and seed": {"n": 3, "temperature": 1.5, "seed": 8},
    "return_token_ids": {"return_token_ids": True},
    "max_tokens": {"max_tokens": 3},
    "all together": {
        "temperature": 1.1,
        "seed": 9,
        "top_k": 20,
        "top_p": 0.9,
        "min_p": 0.01,
        "n": 2,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.3,
        "repetition_penalty": 1.1,
    },
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_means_the_same_as_for_completions(api: Api, name: str) -> None:
    messages = CONVERSATIONS["a question"]
    request = talk(api, messages, max_tokens=12, logprobs=True, top_logprobs=1)
    completed_alike(api, request.but(**PARAMETERS[name]))


#: Words that no template has.
_SAID = ("Zq7 amber", "Wk3 basalt", "Xv5 cobalt", "Jp9 dune")


@pytest.mark.parametrize("parts", [False, True], ids=["strings", "text parts"])
def test_the_prompt_has_every_message_once_and_in_order(api: Api, parts: bool) -> None:
    roles = ("system", "user", "assistant", "user")
    said = [[{"type": "text", "text": text}] if parts else text for text in _SAID]
    messages = [{"role": r, "content": text} for r, text in zip(roles, said, strict=True)]
    template_takes(api, messages)
    answer = api.ask(talk(api, messages, max_tokens=1, return_token_ids=True))
    body = {"model": api.model, "tokens": answer.json["prompt_token_ids"]}
    prompt = api.ask(Request("POST", "/detokenize", body)).json["prompt"]
    found = sorted((prompt.find(text), text) for text in _SAID)
    must(
        [text for at, text in found if at >= 0] == list(_SAID)
        and all(prompt.count(text) == 1 for text in _SAID),
        "The prompt must have every message of the chat once, in order",
        expected=list(_SAID),
        seen=prompt,
    )


def test_a_long_message_is_read_to_its_end(api: Api) -> None:
    room = (context_length(api) or 512) - 96
    words = [
        f"{word} " for word in ("Monday", "Tuesday", "Friday", "red", "blue") for _ in range(90)
    ]
    size = len(tokens_of(api, "".join(words), add_special_tokens=False))
    words = words[: len(words) * min(room, size) // size]
    messages = [{"role": "user", "content": "".join([*words, "Zq7 amber"])}]
    answer = api.ask(talk(api, messages, max_tokens=1, return_token_ids=True))
    _has_prompt(answer, tokens(api, messages))


@pytest.mark.parametrize("kept", [1, 4, 400])
def test_the_prompt_of_a_chat_is_truncated(api: Api, kept: int) -> None:
    ids = tokens(api, CONVERSATIONS["three turns"])
    request = talk(api, CONVERSATIONS["three turns"], max_tokens=2, return_token_ids=True)
    answer = api.both(request.but(truncate_prompt_tokens=kept))
    seen = answer.json["prompt_token_ids"]
    must(
        seen in (ids[-kept:], ids[:kept]) and answer.json["usage"]["prompt_tokens"] == len(seen),
        "truncate_prompt_tokens must keep one side of the prompt",
        expected=ids[-kept:],
        seen=seen,
    )


_QUESTION = [{"role": "user", "content": "What comes after Monday?"}]
_TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}, *_QUESTION]

#: Chats of which each must make another prompt than the one beside it.
OTHERS: dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]] = {
    "question": (_QUESTION, [{"role": "user", "content": "What comes after Friday?"}]),
    "system prompt": (
        [{"role": "system", "content": "Be kind"}, *_QUESTION],
        [{"role": "system", "content": "Be rude"}, *_QUESTION],
    ),
    "earlier question": (_TURNS, [{"role": "user", "content": "Ho"}, *_TURNS[1:]]),
    "earlier answer": (
        _TURNS,
        [_TURNS[0], {"role": "assistant", "content": "No"}, *_QUESTION],
    ),
    "order of messages": (
        [*_TURNS, {"role": "assistant", "content": "Sure"}, _TURNS[0]],
        [*_QUESTION, _TURNS[1], _TURNS[0], {"role": "assistant", "content": "Sure"}, _TURNS[0]],
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_chat_makes_another_prompt(api: Api, name: str) -> None:
    one, other = OTHERS[name]
    template_takes(api, one)
    ids = [
        api.ask(talk(api, chat, max_tokens=1, return_token_ids=True)).json["prompt_token_ids"]
        for chat in (one, other)
    ]
    must(ids[0] != ids[1], f"Another {name} must make another prompt", seen=ids[0])


def test_a_final_message_is_continued(api: Api) -> None:
    begun = [*_QUESTION, {"role": "assistant", "content": "Zq7 amber"}]
    switch = SWITCHES["continue_final_message"]
    request = talk(api, begun, max_tokens=4, **switch)
    answer = api.both(request.but(return_token_ids=True))
    body = {"model": api.model, "tokens": answer.json["prompt_token_ids"]}
    prompt = api.ask(Request("POST", "/detokenize", body)).json["prompt"]
    must(
        prompt.rstrip().endswith("Zq7 amber"),
        "With continue_final_message, the prompt must end with the last message",
        expected="…Zq7 amber",
        seen=prompt,
    )
    echoed = api.both(request.but(echo=True))
    must(
        content(echoed) == "Zq7 amber" + content(answer),
        "With echo, the content must begin with the message that is continued",
        expected="Zq7 amber" + content(answer),
        seen=content(echoed),
    )


def test_a_final_message_cannot_be_continued_and_answered(api: Api) -> None:
    begun = [*_QUESTION, {"role": "assistant", "content": "It"}]
    tokens(api, begun)  # or a model without a chat template says so
    refuse(api, talk(api, begun, continue_final_message=True, add_generation_prompt=True))


_TEMPLATE = "Zq7 amber {{ messages[0]['content'] }}"

#: The two places where a request can bring a template of its own.
BROUGHT: dict[str, dict[str, Any]] = {
    "chat_template": {"chat_template": _TEMPLATE},
    "chat_template_kwargs": {"chat_template_kwargs": {"chat_template": _TEMPLATE}},
}


@pytest.mark.parametrize("name", BROUGHT)
def test_a_template_in_a_request_is_refused_or_used(api: Api, name: str) -> None:
    tokens(api, _QUESTION)  # or a model without a chat template says so
    request = talk(api, _QUESTION, max_tokens=1, return_token_ids=True).but(**BROUGHT[name])
    if api.send(request).status != 200:  # without --trust-request-chat-template
        refuse(api, request, says=["hat template"])
        return
    ids = api.ask(request).json["prompt_token_ids"]
    prompt = api.ask(Request("POST", "/detokenize", {"model": api.model, "tokens": ids})).json
    if "Zq7 amber" not in prompt["prompt"]:
        raise CheckFailed("A template that is accepted must be used", seen=prompt["prompt"])


@pytest.mark.parametrize("logprobs", [0, 2])
def test_prompt_logprobs_are_those_of_the_prompt(api: Api, logprobs: int) -> None:
    request = talk(api, _TURNS, max_tokens=2, return_token_ids=True, prompt_logprobs=logprobs)
    other = as_completion(request, tokens(api, _TURNS))

    def found(answer: Answer) -> Any:
        body = answer.json
        return body.get("prompt_logprobs") or body["choices"][0].get("prompt_logprobs")

    alike(
        lambda: (api.ask(other), api.ask(request)),
        "The prompt_logprobs of a chat must be those of its prompt",
        told=found,
        ignore=["rank"],
    )
