"""Chats that the suite compares, and how it compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.checks_together import alike
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.refusals import is_chat_refusal, server_message
from pytest_vllm.suite.ask_for import chat

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

__all__ = [
    "CONVERSATIONS",
    "as_completion",
    "content",
    "free_answer",
    "same",
    "talk",
    "template_takes",
    "tokens",
]

Message = Mapping[str, Any]


def _user(text: Any) -> Message:
    return {"role": "user", "content": text}


def _assistant(text: Any) -> Message:
    return {"role": "assistant", "content": text}


def _system(text: Any) -> Message:
    return {"role": "system", "content": text}


#: Kinds of chats, by name.
CONVERSATIONS: dict[str, list[Message]] = {
    "a question": [_user("What comes after Monday?")],
    "a system prompt": [_system("Count the crows."), _user("What comes after Monday?")],
    "three turns": [_user("Say blue"), _assistant("Blue, red"), _user("And Friday?")],
    "a system prompt and turns": [
        _system("Count the crows."),
        _user("One"),
        _assistant("Two"),
        _user("Three"),
        _assistant("Four"),
        _user("Five"),
    ],
    "spaces and lines": [_user("  two  spaces,\n\n a line and a tab\t. ")],
    "quotes and markup": [_user("\"a\" 'b' \\n {c} <d> &amp; {{ e }} {% f %} `g`")],
    "other scripts": [_user("你好, Привет, 😀 é")],
    "a long message": [_user("Monday " * 30 + "and Tuesday?")],
    "a name": [{"role": "user", "content": "What comes after Monday?", "name": "ada"}],
    "text parts": [_user([{"type": "text", "text": "What comes"}, {"type": "text", "text": "!"}])],
    "parts in every role": [
        _system([{"type": "text", "text": "Count"}]),
        _user([{"type": "text", "text": "One"}]),
        _assistant([{"type": "text", "text": "Two"}]),
        _user([{"type": "text", "text": "Three"}]),
    ],
    "an empty message": [_user("")],
    "a developer's message": [{"role": "developer", "content": "Count"}, _user("One")],
    "a field of its own": [{"role": "user", "content": "One", "mood": "calm"}],
    "a system prompt in the middle": [_user("One"), _system("Count the crows."), _user("Two")],
    "two system prompts": [_system("Count"), _system("the crows"), _user("One")],
    "two messages of a user": [_user("One"), _user("Two"), _assistant("Three"), _user("Four")],
    "two messages of the assistant": [
        _user("One"),
        _assistant("Two"),
        _assistant("Six"),
        _user("?"),
    ],
}


def talk(api: Api, messages: Sequence[Message], **more: Any) -> Request:
    """A chat of these messages."""
    return chat(api.model, **more).but(messages=list(messages))


def content(answer: Answer, index: int = 0) -> str:
    """What the assistant said."""
    return str(answer.json["choices"][index]["message"]["content"] or "")


def tokens(api: Api, messages: Sequence[Message], **more: Any) -> list[int]:
    """The prompt that the chat template makes of messages.

    Raises:
        ChatNotSupported: There is none.
        CheckFailed: The server does not tokenize it.
    """
    __tracebackhide__ = True
    body = {"model": api.model, "messages": list(messages), **more}
    return list(api.ask(Request("POST", "/tokenize", body)).json["tokens"])


def template_takes(api: Api, messages: Sequence[Message]) -> None:
    """End the test where the model's own template refuses such messages, as some do.

    Raises Unsupported.
    """
    if not api.has("tokenize"):  # nothing to ask: what every template takes
        if _is_plain(messages):
            return
        api.unsupported("no /tokenize tells whether the chat template takes such messages")
    body = {"model": api.model, "messages": list(messages)}
    answer = api.send(Request("POST", "/tokenize", body))
    if answer.status == 400 and not is_chat_refusal(answer.status, answer.text):
        api.unsupported(f"the chat template refuses it: {server_message(answer.text)}")


def _is_plain(messages: Sequence[Message]) -> bool:
    """At most a system prompt first, then user and assistant in turn."""
    roles = [message["role"] for message in messages]
    turns = roles[1:] if roles[0] == "system" else roles
    return turns == ["user" if number % 2 == 0 else "assistant" for number in range(len(turns))]


def as_completion(chat_request: Request, ids: Sequence[int]) -> Request:
    """The same question on /v1/completions, its prompt already made by the template."""
    body = {**(chat_request.body or {}), "prompt": list(ids)}
    del body["messages"]
    if "logprobs" in body:
        body["logprobs"] = body.pop("top_logprobs", 0)
    return Request("POST", "/v1/completions", body)


def same(api: Api, one: Request, other: Request, rule: str, *, ignore: Sequence[str] = ()) -> None:
    """Both requests must be answered alike. Only where they differ are they asked once more.

    Raises CheckFailed, which begins with the rule.
    """
    __tracebackhide__ = True
    alike(lambda: (api.ask(one), api.ask(other)), rule, ignore=ignore)


def free_answer(api: Api, *, length: int = 8) -> tuple[Request, Answer]:
    """A greedy request, and an answer with plain text that is long enough to be cut.

    Raises CheckFailed where no question has one.
    """
    return api.once(("free chat answer", length), lambda: _free_answer(api, length))


def _varies(text: str) -> bool:
    """Whether what stands near the beginning does not stand before: there a stop string ends it."""
    return all(text.index(text[at : at + 2]) == at for at in (1, 4))


def _free_answer(api: Api, length: int) -> tuple[Request, Answer]:
    seen = []
    # A model that says the same letter for ever is driven on by a penalty.
    for penalty in ({}, {"frequency_penalty": 2.0}):
        for question in ("What comes after Monday?", "Count from one!", "Hello", "Say anything"):
            request = chat(api.model, question, max_tokens=24, logprobs=True, **penalty)
            answer = api.ask(request)
            text = content(answer)
            if len(text) >= length and text.isascii() and text.isprintable() and _varies(text):
                return request, answer
            seen.append(text)
    raise CheckFailed(
        "A chat model must answer one of four questions with plain text",
        expected=Text(f"{length} ASCII characters"),
        seen=seen,
    )
