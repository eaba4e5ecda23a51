"""POST /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import ask
from pytest_vllm.client.checks import COMPLETION_ANSWER
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = [pytest.mark.core, pytest.mark.endpoint("POST /v1/completions")]


def test_a_prompt_is_completed(vllm_client: httpx.Client, vllm_server: Server) -> None:
    ask(vllm_client, completion(vllm_server.model)).check(*COMPLETION_ANSWER)
