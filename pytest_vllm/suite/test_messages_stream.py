"""POST /v1/messages (Anthropic): the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.messages import input_total
from pytest_vllm.suite.ask_for_more import CACHED, heard, message

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("messages"),
    pytest.mark.endpoint("POST /v1/messages (stream)"),
    pytest.mark.source("Anthropic API reference: streaming messages"),
]

#: Whatever is asked for, the stream must add up to the same message.
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "one token": {"max_tokens": 1},
    "longer": {"max_tokens": 40},
    "system": {"system": "Answer in one word"},
    "unicode": {"content": "Please say unicode"},
    "top_k": {"temperature": 1, "top_k": 1},
    "stop sequences": {"stop_sequences": [" ", "e", "o"]},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_stream_adds_up_to_the_message(api: Api, name: str) -> None:
    api.both(message(api.model, **REQUESTS[name]), ignore=CACHED)


def test_the_start_of_a_message_counts_its_prompt(api: Api) -> None:
    stream = api.stream(message(api.model))
    start = input_total(stream.chunks[0]["message"]["usage"])
    right = heard(api.ask(message(api.model)))[1]
    rule = "usage.input_tokens of message_start must be those of the unstreamed message"
    must(start == right, rule, expected=right, seen=start)
