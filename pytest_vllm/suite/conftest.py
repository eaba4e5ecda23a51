"""The one fixture of the suite, under a short name."""

from __future__ import annotations

import pytest

from pytest_vllm.client.api import Api


@pytest.fixture
def api(vllm_api: Api) -> Api:
    """The way to the server: requests whose answers are read strictly."""
    return vllm_api
