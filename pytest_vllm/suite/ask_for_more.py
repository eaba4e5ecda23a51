"""The requests of `/v1/responses` and `/v1/messages`, and what is compared with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.messages import input_total
from pytest_vllm.client.readers.responses_items import text_of
from pytest_vllm.suite.ask_for import chat

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

__all__ = [
    "CACHED",
    "FREE",
    "QUESTION",
    "SCHEMA",
    "TIMES",
    "USER",
    "Messages",
    "agree",
    "blocks",
    "chat_of",
    "count_of",
    "function",
    "heard",
    "is_city",
    "message",
    "prompt_ids",
    "respond",
    "text",
    "tool",
]

Messages: TypeAlias = Sequence[Mapping[str, Any]]

QUESTION = "What comes after Monday?"
USER = {"role": "user", "content": QUESTION}

#: What differs between two equal responses, besides what `Api.both` ignores: the second may have
#: its prompt from the cache, and that is told.
TIMES = (
    "created_at",
    "completed_at",
    "call_id",
    "cached_tokens",
    "cache_write_tokens",
    "cached_tokens_per_turn",
)
#: The same of messages. `input_tokens` are those that are not from the cache, so `heard` adds.
CACHED = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

#: What a tool or a format asks for. With `FREE`, every model gets to its end: greedy, a random
#: model may fill the room between two tokens of JSON with spaces for ever.
CITIES = ("Paris", "Rome")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": list(CITIES)}},
    "required": ["city"],
    "additionalProperties": False,
}
FREE: dict[str, Any] = {"temperature": 1}


def respond(model: str, input: str | Messages = QUESTION, **more: Any) -> Request:
    """A response, greedy and short."""
    body = {"model": model, "input": input, "max_output_tokens": 16, "temperature": 0, **more}
    return Request("POST", "/v1/responses", body)


def message(model: str, content: str | Messages = QUESTION, **more: Any) -> Request:
    """An Anthropic message, greedy and short; `messages=` instead for more turns than one."""
    messages = [{"role": "user", "content": content}]
    body = {"model": model, "messages": messages, "max_tokens": 16, "temperature": 0, **more}
    return Request("POST", "/v1/messages", body)


def count_of(request: Request) -> Request:
    """What counts the tokens of an Anthropic message."""
    kept = ("model", "messages", "system", "tools", "tool_choice")
    body = {k: v for k, v in (request.body or {}).items() if k in kept}
    return replace(request, path="/v1/messages/count_tokens", body=body)


def chat_of(model: str, messages: Messages, **more: Any) -> Request:
    """The same conversation for /v1/chat/completions."""
    return chat(model, **more).but(messages=list(messages), seed=...)


def function(name: str = "choose_city") -> dict[str, Any]:
    """A tool of /v1/responses."""
    return {
        "type": "function",
        "name": name,
        "description": "Choose a city",
        "parameters": SCHEMA,
        "strict": True,
    }


def tool(name: str = "choose_city") -> dict[str, Any]:
    """A tool of /v1/messages."""
    return {"name": name, "description": "Choose a city", "input_schema": SCHEMA, "strict": True}


def is_city(value: Any) -> None:
    """The arguments of the tool are what its schema says. Raises CheckFailed."""
    if not (isinstance(value, dict) and set(value) == {"city"} and value["city"] in CITIES):
        rule = "What is made for a strict schema must validate against it"
        raise CheckFailed(rule, expected={"city": CITIES[0]}, seen=value)


def text(answer: Answer) -> str:
    """The text of an answer of any of the endpoints."""
    body = answer.json
    if "output" in body:
        return text_of(body)
    if "choices" in body:
        choice = body["choices"][0]
        found = choice["message"]["content"] if "message" in choice else choice["text"]
        return found or ""
    return "".join(block["text"] for block in body["content"] if block["type"] == "text")


def heard(answer: Answer) -> tuple[str, int]:
    """Text, and tokens of the prompt: what tells whether two requests mean the same."""
    usage = answer.json["usage"]
    count = usage["prompt_tokens"] if "prompt_tokens" in usage else input_total(usage)
    return text(answer), count


def blocks(*texts: str) -> list[dict[str, str]]:
    """Texts as content blocks, of a message as of a chat."""
    return [{"type": "text", "text": text} for text in texts]


def prompt_ids(api: Api, messages: Messages, count: int) -> list[int]:
    """The prompt that a chat template makes of messages, by /tokenize; of this many tokens.

    Two are right: vLLM up to 0.32 adds the tokenizer's special tokens to those of the template
    on /v1/responses (vllm#38187), which a test of its own says.
    """
    body = {"model": api.model, "messages": list(messages)}
    seen: list[int] = []
    for special in (False, True):
        request = Request("POST", "/tokenize", {**body, "add_special_tokens": special})
        found = api.ask(request)
        if len(found.json["tokens"]) == count:
            return list(found.json["tokens"])
        seen.append(len(found.json["tokens"]))
    rule = "usage.input_tokens must be the number of tokens that /tokenize makes of the messages"
    raise CheckFailed(rule, expected=seen[0], seen=count).reproduced_by(found.curl)


def agree(
    rule: str, *ask: Callable[[], Answer], of: Callable[[Answer], Any] = text, tries: int = 3
) -> Answer:
    """Check that answers agree, and return the first of the last try.

    A real model may round a near-tie another way in another batch, so it is asked again before
    the verdict. Raises CheckFailed.
    """
    __tracebackhide__ = True
    for last in range(1, tries + 1):
        answers = [call() for call in ask]
        values = [of(answer) for answer in answers]
        differs = next((at for at, value in enumerate(values) if value != values[0]), None)
        if differs is None:
            break
        if last == tries:
            curls = (answers[differs].curl, answers[0].curl)
            failure = CheckFailed(rule, expected=values[0], seen=values[differs])
            raise failure.reproduced_by(*curls)
    return answers[0]
