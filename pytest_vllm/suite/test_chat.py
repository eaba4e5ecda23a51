"""POST /v1/chat/completions. On a base model the server must refuse these, politely."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import ask
from pytest_vllm.client.checks import CHAT_ANSWER, chat_text
from pytest_vllm.suite.ask_for import chat

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.endpoint("POST /v1/chat/completions"),
]


def test_a_question_is_answered(
    vllm_client: httpx.Client, vllm_server: Server, vllm_note: Callable[[str], None]
) -> None:
    answer = ask(vllm_client, chat(vllm_server.model, max_tokens=64)).check(*CHAT_ANSWER)
    vllm_note(f"reply: {chat_text(answer)!r}")
