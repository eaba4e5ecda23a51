"""A server with a key: who has it is served, who has not is not told anything.

Start one with `vllm serve MODEL --api-key KEY`, and set VLLM_API_KEY for the suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client import ask as asking
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.http import api_key, make_client
from pytest_vllm.client.readers import errors
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.optional,
    pytest.mark.endpoint("Authorization"),
    pytest.mark.source("vLLM docs (--api-key); vLLM test_authentication_middleware"),
]

#: Who knows no key, by what they send.
STRANGERS: dict[str, str | None] = {
    "no key": None,
    "an empty header": "",
    "a wrong key": "Bearer pytest-vllm-wrong-key",
    "an empty key": "Bearer",
    "no scheme": "pytest-vllm-wrong-key",
    "another scheme": "Basic cHl0ZXN0OnZsbG0=",
    "the word null": "Bearer null",
}

#: What vLLM serves without a key.
OPEN = ("/health", "/version", "/metrics", "/ping", "/load")


def _client(api: Api, header: str | None) -> httpx.Client:
    """A client that sends this header instead of the key."""
    client = make_client(api.server.base_url)
    client.headers.pop("Authorization", None)
    if header is not None:
        client.headers["Authorization"] = header
    return client


def _send(api: Api, request: Request, header: str | None = None) -> Answer:
    with _client(api, header) as client:
        return asking.send(client, request)


def _key(api: Api) -> str:
    """The server's key. Ends the test where the server wants none."""
    model, completion_ = Request("GET", "/v1/models"), Request("POST", "/v1/completions", {})
    seen = api.once("keyless", lambda: [_send(api, r).status for r in (model, completion_)])
    key = api_key()
    if 401 not in seen:
        must(
            key is None,
            "A server with a key must refuse who has none (or unset VLLM_API_KEY: it has none)",
            expected=401,
            seen=seen,
        )
        api.unsupported(f"no key is needed: GET /v1/models without one: {seen[0]}")
    if key is None:
        api.unsupported("the server wants a key: set VLLM_API_KEY")
    return key


def _guarded(api: Api) -> list[Request]:
    """Every listed route under /v1, with a body that is refused before anything happens."""
    found = []
    for endpoint in sorted(api.server.capabilities.endpoints):
        method, _, path = endpoint.partition(" ")
        if path.startswith(("/v1/", "/v2/")):
            path = path.replace("{response_id}", "resp_x").replace("{model_id}", "x")
            found.append(Request(method, path, {} if method == "POST" else None))
    return found or [Request("GET", "/v1/models"), Request("POST", "/v1/completions", {})]


def _refuses(answer: Answer, api: Api, key: str) -> None:
    errors.read(answer, 401, api.dialect, plain=True)
    head = " ".join(f"{name}: {value}" for name, value in answer.headers.items())
    must(key not in answer.text + head, "A refusal must not tell the key")
    must("wrong-key" not in answer.text, "A refusal must not repeat what was sent as key")


@pytest.mark.parametrize("who", STRANGERS)
def test_every_route_is_refused_with(api: Api, who: str) -> None:
    key = _key(api)
    with _client(api, STRANGERS[who]) as client:
        for request in _guarded(api):
            asking.send(client, request).check(lambda a: _refuses(a, api, key))


@pytest.mark.requires("generation")
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_good_request_is_refused_without_the_key(api: Api, streamed: bool) -> None:
    key = _key(api)
    request = completion(api.model, "Hello", max_tokens=2)
    request = request.but(stream=True) if streamed else request
    for almost in (key[:-1], key + "x", key.swapcase() + "x", f"{key} {key}"):
        answer = _send(api, request, f"Bearer {almost}")
        answer.check(lambda a: _refuses(a, api, key))
    api.refused(request.but(max_tokens=0), late=True)
    _send(api, request, f"Bearer {key}").check(
        lambda a: must(a.status == 200, "The key must open the server", seen=a.status)
    )


def test_the_key_opens_every_route(api: Api) -> None:
    _key(api)
    for request in _guarded(api):
        answer = api.send(request)
        answer.check(lambda a: must(a.status not in (401, 403), "The key must do", seen=a.status))


@pytest.mark.requires("vllm")
@pytest.mark.parametrize("path", OPEN)
def test_no_key_is_needed_for(api: Api, path: str) -> None:
    _key(api)
    if path == "/load" and "GET /load" not in api.server.capabilities.endpoints:
        api.unsupported("GET /openapi.json lists no GET /load")
    answer = _send(api, Request("GET", path))
    answer.check(lambda a: must(a.status == 200, "This must be open to all", seen=a.status))


@pytest.mark.requires("metrics")
def test_no_page_tells_the_key(api: Api) -> None:
    key = _key(api)
    for path in ("/metrics", "/version", "/openapi.json", "/health", "/v1/models", "/docs"):
        answer = api.send(Request("GET", path))
        answer.check(lambda a: must(key not in a.text, "No page must tell the key"))


def test_a_server_without_a_key_takes_any(api: Api) -> None:
    keyless = _send(api, Request("GET", "/v1/models"))
    if keyless.status == 401:
        api.unsupported("the server wants a key")
    for header in ("Bearer anything", "Bearer", "Basic eDp5"):
        answer = _send(api, Request("GET", "/v1/models"), header)
        answer.check(lambda a: must(a.status == 200, "No key must be needed", seen=a.status))
