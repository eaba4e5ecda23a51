"""POST /v1/completions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.checks import has_text
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [pytest.mark.core, pytest.mark.endpoint("POST /v1/completions")]


def test_a_prompt_is_completed(api: Api) -> None:
    api.ask(completion(api.model)).check(has_text)
