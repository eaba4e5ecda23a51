"""The official openai and anthropic clients for a server, where these packages are installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.http import READ_S, api_key

if TYPE_CHECKING:
    import anthropic
    import openai

__all__ = ["HOW_TO_GET", "is_there", "make_anthropic", "make_async_openai", "make_openai"]

#: The command that brings a client.
HOW_TO_GET = "pip install 'pytest-vllm[{}]'"


def is_there(package: str) -> bool:
    """Whether a client can be imported."""
    return find_spec(package) is not None


def make_openai(base_url: str) -> openai.OpenAI:
    """A client without retries. Skips the test where openai is not installed."""
    client: openai.OpenAI = _module("openai").OpenAI(**_options(f"{base_url}/v1"))
    return client


def make_async_openai(base_url: str) -> openai.AsyncOpenAI:
    """The same, for `async with`."""
    client: openai.AsyncOpenAI = _module("openai").AsyncOpenAI(**_options(f"{base_url}/v1"))
    return client


def make_anthropic(base_url: str) -> anthropic.Anthropic:
    """Anthropic's client, which adds `/v1` itself; without retries.

    vLLM and others take the key as OpenAI's clients send it, so it is sent that way.
    """
    options = _options(base_url)
    key = options.pop("api_key")
    client: anthropic.Anthropic = _module("anthropic").Anthropic(auth_token=key, **options)
    return client


def _module(name: str) -> Any:
    return pytest.importorskip(name, reason=f"needs: {HOW_TO_GET.format(name)}")


def _options(base_url: str) -> dict[str, Any]:
    # The clients insist on a key, also for a server that wants none.
    key = api_key() or "no-key"
    return {"base_url": base_url, "api_key": key, "max_retries": 0, "timeout": READ_S}
