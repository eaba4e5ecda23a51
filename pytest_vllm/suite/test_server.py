"""GET /health, /version and /docs: for the people and machines that look after a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.ask import ask
from pytest_vllm.client.checks import has_shape, is_html, is_json
from pytest_vllm.client.exchange import Request

if TYPE_CHECKING:
    import httpx

pytestmark = pytest.mark.optional


# Only the status counts: vLLM sends neither a body nor a content type.
@pytest.mark.endpoint("GET /health")
def test_the_server_says_that_it_is_healthy(vllm_client: httpx.Client) -> None:
    ask(vllm_client, Request("GET", "/health"))


@pytest.mark.endpoint("GET /version")
@pytest.mark.requires("version")
def test_the_server_says_its_version(vllm_client: httpx.Client) -> None:
    ask(vllm_client, Request("GET", "/version")).check(is_json, has_shape(shapes.VERSION))


@pytest.mark.endpoint("GET /docs")
@pytest.mark.requires("docs")
def test_the_documentation_can_be_read(vllm_client: httpx.Client) -> None:
    ask(vllm_client, Request("GET", "/docs")).check(is_html)
