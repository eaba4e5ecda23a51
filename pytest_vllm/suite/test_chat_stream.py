"""POST /v1/chat/completions, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import ask, ask_stream
from pytest_vllm.client.checks import chat_text
from pytest_vllm.client.checks_stream import CHAT_STREAM, ends_with_usage, equals_unstreamed
from pytest_vllm.suite.ask_for import chat, streamed

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.endpoint("POST /v1/chat/completions (stream)"),
]


def test_an_answer_is_streamed(vllm_client: httpx.Client, vllm_server: Server) -> None:
    ask_stream(vllm_client, streamed(chat(vllm_server.model))).check(*CHAT_STREAM)


def test_the_streamed_answer_equals_the_unstreamed_answer(
    vllm_client: httpx.Client, vllm_server: Server
) -> None:
    request = chat(vllm_server.model)
    stream = ask_stream(vllm_client, streamed(request)).check(*CHAT_STREAM)
    stream.check(equals_unstreamed(lambda: chat_text(ask(vllm_client, request))))


def test_a_stream_ends_with_its_usage_when_asked_to(
    vllm_client: httpx.Client, vllm_server: Server
) -> None:
    request = streamed(chat(vllm_server.model), include_usage=True)
    ask_stream(vllm_client, request).check(*CHAT_STREAM, ends_with_usage)
