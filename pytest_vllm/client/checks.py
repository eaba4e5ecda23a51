"""Rules for answers that came as a whole. Each takes an `Answer`, is pure and raises CheckFailed.

`COMPLETION_ANSWER` and `CHAT_ANSWER` are what always holds, for any model and any prompt;
they assume a prompt that is one string and `max_tokens` in the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.exchange import Answer
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.shapes import STRING, Shape, conform

__all__ = [
    "CHAT_ANSWER",
    "COMPLETION_ANSWER",
    "Check",
    "chat_text",
    "check_usage",
    "completion_text",
    "has_shape",
    "is_html",
    "is_json",
    "lists_model",
]

Check = Callable[[Answer], None]


def is_json(answer: Answer) -> None:
    """The answer is JSON and says so."""
    _has_media_type(answer, "application/json")
    _ = answer.json


def is_html(answer: Answer) -> None:
    """The answer is a page for people."""
    _has_media_type(answer, "text/html")


def _has_media_type(answer: Answer, wanted: str) -> None:
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != wanted:
        raise CheckFailed(f"The content type must be {wanted}", seen=media_type)


def has_shape(shape: Shape) -> Check:
    """All fields are there and of their kind."""

    def check(answer: Answer) -> None:
        conform(answer.json, shape)

    return check


def names_model(answer: Answer) -> None:
    """`model` is the one that was asked for."""
    check_model(answer.json["model"], _asked(answer))


def check_model(seen: str, request: Mapping[str, Any]) -> None:
    """An answer or a chunk names the model of its request."""
    if seen != request["model"]:
        raise CheckFailed(
            "`model` must be the one that was asked for", expected=request["model"], seen=seen
        )


def has_one_choice(answer: Answer) -> None:
    """One prompt, `n` left at 1: one choice, with index 0."""
    indices = [choice["index"] for choice in answer.json["choices"]]
    if indices != [0]:
        raise CheckFailed("There must be one choice, with index 0", expected=[0], seen=indices)


def has_usage(answer: Answer) -> None:
    """`usage` adds up, and agrees with `max_tokens` and `finish_reason`."""
    check_usage(answer.json["usage"], _asked(answer), answer.json["choices"][0]["finish_reason"])


def check_usage(usage: Mapping[str, int], request: Mapping[str, Any], finish_reason: str) -> None:
    """Check one usage object of an unbatched request; also for the one at the end of a stream."""
    prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
    if usage["total_tokens"] != prompt + completion:
        raise CheckFailed(
            "usage.total_tokens must be prompt_tokens + completion_tokens",
            expected=prompt + completion,
            seen=usage["total_tokens"],
        )
    if prompt == 0:
        raise CheckFailed("usage.prompt_tokens must count the prompt", seen=prompt)
    limit = request["max_tokens"]
    if completion > limit or (finish_reason == "length" and completion != limit):
        raise CheckFailed(
            f"usage.completion_tokens must agree with max_tokens={limit} and "
            f"finish_reason={finish_reason}",
            seen=completion,
        )


def has_text(answer: Answer) -> None:
    """The model said something."""
    check_text(completion_text(answer))


def says_something(answer: Answer) -> None:
    """The assistant said something, aloud or in its reasoning."""
    check_text(chat_text(answer))


def check_text(text: str) -> None:
    """The text of an answer, streamed or not, is not empty."""
    if not text:
        raise CheckFailed("The generated text must not be empty", seen=text)


def completion_text(answer: Answer) -> str:
    """Return the text of the first choice. Raises CheckFailed where there is none."""
    return str(_first_choice(answer, {"text": STRING})["text"])


def chat_text(answer: Answer) -> str:
    """Return the reply: reasoning first, where a reasoning parser split it off.

    Raises CheckFailed where there is none.
    """
    return message_text(_first_choice(answer, {"message": {}})["message"])


def _first_choice(answer: Answer, shape: Shape) -> Mapping[str, Any]:
    conform(answer.json, {"choices": [shape]})
    for choice in answer.json["choices"]:
        return dict(choice)
    raise CheckFailed("There must be a choice", seen=[])


def message_text(message: Mapping[str, Any]) -> str:
    """Return all text of a message or delta; vLLM renamed `reasoning_content` to `reasoning`."""
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    return f"{reasoning}{message.get('content') or ''}"


def lists_model(model: str) -> Check:
    """`/v1/models` names the model that requests name."""

    def check(answer: Answer) -> None:
        names = [entry["id"] for entry in answer.json["data"]]
        if model not in names:
            raise CheckFailed("The list must name the served model", expected=model, seen=names)

    return check


def _asked(answer: Answer) -> Mapping[str, Any]:
    return answer.request.body or {}


COMPLETION_ANSWER: tuple[Check, ...] = (
    is_json,
    has_shape(shapes.COMPLETION),
    names_model,
    has_one_choice,
    has_usage,
    has_text,
)

CHAT_ANSWER: tuple[Check, ...] = (
    is_json,
    has_shape(shapes.CHAT_COMPLETION),
    names_model,
    has_one_choice,
    has_usage,
    says_something,
)
