"""POST /v1/completions, streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import ask, ask_stream
from pytest_vllm.client.checks import completion_text
from pytest_vllm.client.checks_stream import COMPLETION_STREAM, ends_with_usage, equals_unstreamed
from pytest_vllm.suite.ask_for import completion, streamed

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = pytest.mark.endpoint("POST /v1/completions (stream)")


@pytest.mark.core
def test_a_completion_is_streamed(vllm_client: httpx.Client, vllm_server: Server) -> None:
    ask_stream(vllm_client, streamed(completion(vllm_server.model))).check(*COMPLETION_STREAM)


# Core, also for real models in bfloat16: at temperature 0 the numbers of one request are the same
# whether its tokens are sent singly or at the end, so a difference is text lost on the way.
@pytest.mark.core
def test_the_streamed_text_equals_the_unstreamed_text(
    vllm_client: httpx.Client, vllm_server: Server
) -> None:
    request = completion(vllm_server.model)
    stream = ask_stream(vllm_client, streamed(request)).check(*COMPLETION_STREAM)
    stream.check(equals_unstreamed(lambda: completion_text(ask(vllm_client, request))))


@pytest.mark.optional
def test_a_stream_ends_with_its_usage_when_asked_to(
    vllm_client: httpx.Client, vllm_server: Server
) -> None:
    request = streamed(completion(vllm_server.model), include_usage=True)
    ask_stream(vllm_client, request).check(*COMPLETION_STREAM, ends_with_usage)
