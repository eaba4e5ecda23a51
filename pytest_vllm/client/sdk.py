"""openai clients for a server, where the package openai is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.http import READ_S, api_key

if TYPE_CHECKING:
    import openai


def make_openai(base_url: str) -> openai.OpenAI:
    """A client without retries. Skips the test where openai is not installed."""
    module = _module()
    client: openai.OpenAI = module.OpenAI(**_options(base_url))
    return client


def make_async_openai(base_url: str) -> openai.AsyncOpenAI:
    """The same, for `async with`."""
    module = _module()
    client: openai.AsyncOpenAI = module.AsyncOpenAI(**_options(base_url))
    return client


def _module() -> Any:
    return pytest.importorskip("openai", reason="needs `pip install pytest-vllm[openai]`")


def _options(base_url: str) -> dict[str, Any]:
    # The client insists on a key, also for a server that wants none.
    key = api_key() or "no-key"
    return {"base_url": f"{base_url}/v1", "api_key": key, "max_retries": 0, "timeout": READ_S}
