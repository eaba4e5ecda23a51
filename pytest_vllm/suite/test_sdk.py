"""The official Python clients read the answers: openai's and, for /v1/messages, anthropic's.

They are what most programs talk with. What they make of an answer must be what is on the wire,
which the rest of the suite judges; and an error must become the exception that programs catch.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from pytest_vllm.client import sdk
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refusals import is_chat_refusal, server_message
from pytest_vllm.errors import ChatNotSupported
from pytest_vllm.suite.ask_for import chat, completion
from pytest_vllm.suite.chats import content
from pytest_vllm.suite.constraints import calm
from pytest_vllm.suite.facts import eventually

if TYPE_CHECKING:
    import anthropic
    import openai

    from pytest_vllm.client.api import Api

pytestmark = [pytest.mark.optional, pytest.mark.source("openai-python; anthropic-sdk-python")]

T = TypeVar("T")

on_completions = pytest.mark.endpoint("POST /v1/completions")

_HELLO = [{"role": "user", "content": "What comes after Monday?"}]
_SHORT: dict[str, Any] = {"max_tokens": 8, "temperature": 0}


def _with_openai(api: Api, use: Callable[[openai.OpenAI], T]) -> T:
    return _with(api, "openai", sdk.make_openai, use)


def _with_anthropic(api: Api, use: Callable[[anthropic.Anthropic], T]) -> T:
    return _with(api, "anthropic", sdk.make_anthropic, use)


def _with(api: Api, package: str, make: Callable[[str], Any], use: Callable[[Any], T]) -> T:
    """Call a client: what it raises about an answer is a broken rule.

    Raises:
        ChatNotSupported: The model has no chat template.
        CheckFailed: The client could not read the answer, or was refused.
    """
    __tracebackhide__ = True
    if not sdk.is_there(package):
        api.unsupported(f"needs: {sdk.HOW_TO_GET.format(package)}")
    try:
        with closing(make(api.server.base_url)) as client:
            return use(client)
    except AssertionError:
        raise
    except Exception as error:
        response = getattr(error, "response", None)
        if response is not None and is_chat_refusal(response.status_code, response.text):
            raise ChatNotSupported(server_message(response.text)) from None
        seen = Text(f"{type(error).__name__}: {error}")
        rule = f"The official client ({package}) must be able to read the answer"
        raise CheckFailed(rule, seen=seen) from None


def _same(what: str, expected: object, seen: object) -> None:
    __tracebackhide__ = True
    rule = f"The official client must read the same {what} as is on the wire"
    must(expected == seen, rule, expected=expected, seen=seen)


@on_completions
def test_openai_reads_a_completion(api: Api) -> None:
    request = completion(api.model, max_tokens=8)

    def check() -> None:
        [choice] = api.ask(request).json["choices"]
        read = _with_openai(api, lambda c: c.completions.create(**_body(request)))
        _same("text", choice["text"], read.choices[0].text)

    eventually(check)


@on_completions
def test_openai_reads_a_streamed_completion(api: Api) -> None:
    request = completion(api.model, max_tokens=8)

    def read(client: openai.OpenAI) -> str:
        chunks = client.completions.create(**_body(request), stream=True)
        return "".join(choice.text for chunk in chunks for choice in chunk.choices)

    def check() -> None:
        [choice] = api.ask(request).json["choices"]
        _same("text", choice["text"], _with_openai(api, read))

    eventually(check)


@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/chat/completions")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_openai_reads_a_chat(api: Api, stream: bool) -> None:
    request = chat(api.model, max_tokens=8)

    def read(client: openai.OpenAI) -> str:
        if not stream:
            answer = client.chat.completions.create(**_body(request))
            return answer.choices[0].message.content or ""
        chunks = client.chat.completions.create(**_body(request), stream=True)
        return "".join(c.delta.content or "" for chunk in chunks for c in chunk.choices)

    eventually(lambda: _same("content", content(api.ask(request)), _with_openai(api, read)))


@pytest.mark.requires("vllm")
@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/chat/completions")
def test_openai_parses_a_model_of_pydantic(api: Api) -> None:
    def read(client: openai.OpenAI) -> Any:
        from typing import Literal

        from pydantic import create_model

        colour, size = Literal["red", "blue"], Literal[1, 22]
        fields: Any = {"colour": (colour, ...), "size": (size, ...)}
        box: Any = create_model("Box", **fields)
        more = {"model": api.model, "messages": _HELLO, **_SHORT, "max_tokens": 64, **calm(api)}
        answer = client.chat.completions.parse(response_format=box, **more)
        return answer.choices[0].message.parsed

    parsed = _with_openai(api, read)
    good = parsed is not None and parsed.colour in ("red", "blue") and parsed.size in (1, 22)
    must(good, "The client must parse the answer as the model that was asked for", seen=parsed)


@pytest.mark.requires("responses", "generation")
@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/responses")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_openai_reads_a_response(api: Api, stream: bool) -> None:
    asked: dict[str, Any] = {"input": "What comes after Monday?", "temperature": 0}
    asked |= {"model": api.model, "max_output_tokens": 8}

    def read(client: openai.OpenAI) -> str:
        if not stream:
            return str(client.responses.create(**asked).output_text)
        events = client.responses.create(**asked, stream=True)
        return "".join(e.delta for e in events if e.type == "response.output_text.delta")

    def check() -> None:
        [message] = api.ask(Request("POST", "/v1/responses", asked)).json["output"]
        text = "".join(part["text"] for part in message["content"])
        _same("text", text, _with_openai(api, read))

    eventually(check)


@pytest.mark.requires("embeddings")
@pytest.mark.endpoint("POST /v1/embeddings")
def test_openai_reads_an_embedding(api: Api) -> None:
    asked: dict[str, Any] = {"model": api.model, "input": ["Monday", "Friday"]}
    wire = api.ask(Request("POST", "/v1/embeddings", asked)).json["data"]
    read = _with_openai(api, lambda client: client.embeddings.create(**asked))  # in base64
    for entry, seen in zip(wire, read.data, strict=True):
        near = all(
            abs(a - b) < 1e-2 for a, b in zip(entry["embedding"], seen.embedding, strict=True)
        )
        must(near, "The official client must read the same embedding as is on the wire")


@on_completions
@pytest.mark.parametrize(
    ("bad", "name"),
    [({"model": "no/such-model"}, "NotFoundError"), ({"temperature": -1}, "BadRequestError")],
    ids=["unknown model", "wrong value"],
)
def test_openai_raises_the_error_of_a_refusal(api: Api, bad: dict[str, Any], name: str) -> None:
    if name == "NotFoundError" and not api.dialect.is_vllm:
        api.unsupported("other servers may take any name of a model")

    def read(client: openai.OpenAI) -> None:
        import openai

        _raises(
            getattr(openai, name),
            lambda: client.completions.create(**{**_body(completion(api.model)), **bad}),
        )

    _with_openai(api, read)


def _raises(expected: type[Exception], call: Callable[[], object]) -> None:
    __tracebackhide__ = True
    seen: object = "no error"
    try:
        call()
    except expected as error:
        # `body` is what the client found under "error"; None where it could not read it.
        must(
            getattr(error, "body", None) is not None,
            f"{expected.__name__} must come with the error object of the server",
        )
        return
    except Exception as other:
        seen = Text(f"{type(other).__name__}: {other}")
    rule = f"The official client must raise {expected.__name__}"
    raise CheckFailed(rule, seen=seen)


@pytest.mark.requires("messages", "generation")
@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/messages")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_anthropic_reads_a_message(api: Api, stream: bool) -> None:
    asked: dict[str, Any] = {"model": api.model, "messages": _HELLO, "max_tokens": 8}
    greedy = {"temperature": 0, "top_k": 1}

    def read(client: anthropic.Anthropic) -> Any:
        more = {**asked, "extra_body": greedy}
        if not stream:
            return client.messages.create(**more)
        with client.messages.stream(**more) as events:
            return events.get_final_message()

    def check() -> None:
        wire = api.ask(Request("POST", "/v1/messages", {**asked, **greedy})).json
        seen = _with_anthropic(api, read)
        text = "".join(block.text for block in seen.content if block.type == "text")
        _same("text", "".join(b["text"] for b in wire["content"] if b["type"] == "text"), text)
        _same("stop_reason", wire["stop_reason"], seen.stop_reason)
        _same("output_tokens", wire["usage"]["output_tokens"], seen.usage.output_tokens)

    eventually(check)


@pytest.mark.requires("messages", "generation")
@pytest.mark.endpoint("POST /v1/messages")
def test_anthropic_raises_the_error_of_a_refusal(api: Api) -> None:
    asked: dict[str, Any] = {"model": "no/such-model", "messages": _HELLO, "max_tokens": 8}

    def read(client: anthropic.Anthropic) -> None:
        import anthropic

        _raises(anthropic.NotFoundError, lambda: client.messages.create(**asked))

    _with_anthropic(api, read)


def _body(request: Request) -> dict[str, Any]:
    return dict(request.body or {})
