"""The one fixture of the suite, under a short name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

#: Endpoints that a server for embeddings does not have, by the beginning of a test's label.
_GENERATE = tuple(
    f"POST /v1/{name}" for name in ("completions", "chat/completions", "responses", "messages")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What generates text is for servers that do."""
    for item in items:
        endpoint = item.get_closest_marker("endpoint")
        ours = item.path.parent == Path(__file__).parent
        if ours and endpoint is not None and str(endpoint.args[0]).startswith(_GENERATE):
            item.add_marker(pytest.mark.requires("generation"))


@pytest.fixture
def api(vllm_api: Api) -> Api:
    """The way to the server: requests whose answers are read strictly."""
    return vllm_api
