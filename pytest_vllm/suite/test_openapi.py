"""GET /openapi.json: the list of what a server can do must be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks import is_json
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.shapes import NAME, conform

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("vllm"),
    pytest.mark.endpoint("GET /openapi.json"),
    pytest.mark.source("OpenAPI 3.1"),
]

_LISTING = Request("GET", "/openapi.json")

#: What a vLLM that generates text has, whatever its model.
GENERATING = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages")
ALWAYS = ("/v1/models", "/tokenize", "/detokenize", "/health", "/version", "/ping", "/load")

#: Pages that are not asked: those that change something, or need a name in the path.
_LEFT = ("{", "sleep", "wake", "reset", "profile", "scale", "abort", "pause", "resume", "update")


def _listing(api: Api) -> Any:
    return api.once("openapi", lambda: api.ask(_LISTING).check(is_json)).json


def test_the_list_is_openapi(api: Api) -> None:
    def check(answer: Answer) -> None:
        conform(answer.json, {"openapi": NAME, "info": {"title": NAME, "version": NAME}})
        must(answer.json["openapi"].startswith("3."), "openapi must be 3.x", seen=answer.json)
        paths = answer.json.get("paths")
        must(isinstance(paths, dict) and paths, "There must be paths", seen=paths)
        for path, methods in paths.items():
            must(path.startswith("/"), "A path must begin with /", seen=path)
            for method, operation in methods.items():
                must(
                    operation.get("responses"),
                    f"{method.upper()} {path} must say how it is answered",
                    seen=operation,
                )

    api.ask(_LISTING).check(is_json, check)


def test_every_reference_is_there(api: Api) -> None:
    listing = _listing(api)
    schemas = listing.get("components", {}).get("schemas", {})
    lost = sorted({name for name in _references(listing) if name not in schemas})
    must(not lost, "Every $ref must lead to a schema", seen=lost)


def _references(value: Any) -> list[str]:
    """The names of all schemas that are referred to."""
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    if not isinstance(value, dict):
        return []
    own = value.get("$ref")
    prefix = "#/components/schemas/"
    found = [own.removeprefix(prefix)] if isinstance(own, str) and own.startswith(prefix) else []
    return [*found, *(name for item in value.values() for name in _references(item))]


@pytest.mark.source("vLLM docs (supported APIs)")
@pytest.mark.parametrize("path", [*ALWAYS, *GENERATING])
def test_the_list_names(api: Api, path: str) -> None:
    if path in GENERATING and not api.has("generation"):
        api.unsupported(api.server.capabilities.why_not("generation"))
    if path == "/v1/messages" and not api.dialect.since(0, 11):
        api.unsupported("it came with vLLM 0.11")
    must(path in _listing(api)["paths"], f"The list must name {path}", seen="nothing")


def test_every_listed_page_can_be_read(api: Api) -> None:
    for path, methods in _listing(api)["paths"].items():
        if "get" in methods and not any(word in path for word in _LEFT):
            answer = api.send(Request("GET", path))
            answer.check(
                lambda a: must(a.status < 500, "A listed page must not fail", seen=a.status)
            )
            answer.check(lambda a: must(a.status != 404, "A listed page must be there", seen=404))


def test_every_listed_endpoint_is_there(api: Api) -> None:
    for path, methods in _listing(api)["paths"].items():
        if "post" in methods and path.startswith(("/v1/", "/tokenize", "/detokenize")):
            if any(word in path for word in _LEFT):
                continue
            # An empty body is refused before anything happens.
            answer = api.send(Request("POST", path, {}))
            answer.check(
                lambda a: must(
                    a.status not in (404, 405) and a.status < 500,
                    "A listed endpoint must be there",
                    seen=a.status,
                )
            )
