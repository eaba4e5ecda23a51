"""Requests made up from /openapi.json: whatever the schema allows, nothing may break.

Seeded and bounded. Needs `pip install 'pytest-vllm[fuzz]'`.
"""

from __future__ import annotations

import json
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client import ask as asking
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import Text
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.refusals import server_message
from pytest_vllm.client.refused import still_well

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.alone,
    pytest.mark.requires("vllm", "openapi"),
    pytest.mark.endpoint("POST (every endpoint)"),
    pytest.mark.source("OpenAPI schema, by schemathesis; vLLM test_openai_schema.py"),
]

#: Requests for one endpoint, and the seconds after which no more are sent.
EXAMPLES, SECONDS = 12, 2.0

#: Fields that would only cost time, and what they are set to where a made-up body has them.
CHEAP: dict[str, Any] = {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2}
#: Fields that are left out. Each has its tests elsewhere: what they may hold is a language of its
#: own, or (`n`, `best_of`) as many answers as the number says.
LEFT = (
    "n",
    "best_of",
    "min_tokens",
    "structured_outputs",
    "response_format",
    "tools",
    "tool_choice",
    "stream",
    "stream_options",
    "use_beam_search",
    "seed",
    "suffix",
    "prompt_embeds",
    "kv_transfer_params",
    "vllm_xargs",
    "chat_template",
    "stop",
)


@pytest.mark.parametrize(
    "path",
    ["/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize", "/v1/embeddings"],
)
def test_no_request_breaks(api: Api, path: str) -> None:
    if f"POST {path}" not in api.server.capabilities.endpoints:
        api.unsupported(f"GET /openapi.json lists no POST {path}")
    sent, until = 0, time.monotonic() + SECONDS
    for body in _bodies(api, path):
        request = Request("POST", path, body)
        answer = asking.send(api.client, request, deadline_s=60)
        answer.check(
            lambda a: must(
                a.status < 500,
                "No request that the schema allows may break the server",
                seen=Text(f"{a.status}: {server_message(a.text)}"),
            )
        )
        sent += 1
        if time.monotonic() > until:
            break
    still_well(api)
    api.note(f"{sent} requests")


def _bodies(api: Api, path: str) -> Iterator[dict[str, Any]]:
    """Made-up bodies, the same in each run; made before the first is sent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of others' deprecations
        try:
            import hypothesis
            import schemathesis
        except ImportError:
            api.unsupported("needs: pip install 'pytest-vllm[fuzz]'")
        listing = api.ask(Request("GET", "/openapi.json")).json
        operation = schemathesis.openapi.from_dict(_only(listing, path))[path]["POST"]
        found: list[dict[str, Any]] = []

        @hypothesis.seed(0)
        @hypothesis.settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def collect(case: Any) -> None:
            if isinstance(case.body, dict):
                found.append(_tame(case.body, api.model))

        collect()
    yield from found


def _only(listing: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema of one endpoint, so that the others cost nothing."""
    return {**listing, "paths": {path: listing["paths"][path]}}


def _tame(body: dict[str, Any], model: str) -> dict[str, Any]:
    """The same request for our model, cheap to answer."""
    cheap = {name: value for name, value in CHEAP.items() if name in body}
    kept = {name: value for name, value in body.items() if name not in LEFT}
    return json.loads(json.dumps({**kept, **cheap, "model": model}, allow_nan=False))  # type: ignore[no-any-return]
