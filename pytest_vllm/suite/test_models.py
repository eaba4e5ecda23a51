"""GET /v1/models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.ask import ask
from pytest_vllm.client.checks import has_shape, is_json, lists_model
from pytest_vllm.client.exchange import Request

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = [pytest.mark.optional, pytest.mark.endpoint("GET /v1/models")]


def test_the_list_names_the_served_model(vllm_client: httpx.Client, vllm_server: Server) -> None:
    answer = ask(vllm_client, Request("GET", "/v1/models"))
    answer.check(is_json, has_shape(shapes.MODEL_LIST), lists_model(vllm_server.model))
