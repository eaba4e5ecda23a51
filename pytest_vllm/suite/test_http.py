"""HTTP: what proxies, browsers and client libraries rely on, whatever is asked."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client import ask as asking
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.http import make_client
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("RFC 9110, RFC 9112"),
]

#: Seconds that a server's clock may be off from ours.
_CLOCK_S = 24 * 3600


def _small(api: Api) -> Request:
    return completion(api.model, "Hello", max_tokens=2)


def _raw(request: Request, *, content_type: str | None = "application/json") -> Request:
    """The same request, with the body as bytes and this content type."""
    headers = {} if content_type is None else {"Content-Type": content_type}
    content = json.dumps(request.body).encode()
    return Request(request.method, request.path, request.body, headers, content)


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None],
)
def test_a_body_that_is_not_said_to_be_json_is_refused(api: Api, content_type: str | None) -> None:
    request = _raw(_small(api), content_type=content_type)
    status = api.send(request).status
    if status == 200 and not api.dialect.is_vllm:
        api.unsupported("this server does not look at the content type")
    # 415 is the better status; vLLM says 400.
    api.refused(request, status=status if status in (415, 422) else 400, plain=status != 400)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"]
)
def test_json_may_be_spelled(api: Api, content_type: str) -> None:
    api.ask(_raw(_small(api), content_type=content_type))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/v1/models",
        pytest.param("/v1/chat/completions", marks=pytest.mark.optional),
        pytest.param("/tokenize", marks=pytest.mark.optional),
        *(
            pytest.param(f"/v1/{name}", marks=[pytest.mark.optional, pytest.mark.requires(name)])
            for name in ("responses", "messages", "embeddings")
        ),
    ],
)
def test_a_wrong_method_is_not_allowed(api: Api, method: str, path: str) -> None:
    if path == "/v1/models" and method == "GET":
        method = "POST"
    if not api.dialect.is_vllm:
        seen = api.send(Request(method, path)).status
        if seen in (200, 404, 501):
            api.unsupported(f"{method} {path}: {seen}")
    answer = api.refused(Request(method, path), status=405, plain=True)
    if api.dialect.is_vllm:
        rule = "A refused method must come with the header Allow"
        answer.check(lambda a: must(a.headers.get("allow"), rule, seen=a.headers.get("allow")))


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("path", ["/v1/models", "/v1/completions"])
def test_a_query_that_nobody_knows_changes_nothing(api: Api, path: str) -> None:
    request = _small(api) if path == "/v1/completions" else Request("GET", path)
    answer = api.send(Request(request.method, f"{path}?api-version=1", request.body))
    rule = "A query that the server does not know must change nothing"
    answer.check(lambda a: must(a.status == 200, rule, expected=200, seen=a.status))


@pytest.mark.parametrize("path", ["/no-such-page", "/v1/no-such-page", "/v1/completions/x", "/v2"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_page_is_not_found(api: Api, method: str, path: str) -> None:
    body = {"model": api.model} if method == "POST" else None
    answer = api.send(Request(method, path, body))
    if not api.dialect.is_vllm and answer.status != 404:
        api.unsupported(f"{method} {path}: {answer.status}")
    api.refused(Request(method, path, body), status=404, plain=True)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/health", "/v1/models", "/v1/completions", "/"])
def test_a_question_without_a_body_does_no_harm(api: Api, method: str, path: str) -> None:
    answer = api.send(Request(method, path))
    answer.check(lambda a: must(a.status < 500, f"{method} must not fail", seen=a.status))
    if method == "HEAD":
        answer.check(lambda a: must(a.content == b"", "HEAD must have no body", seen=a.text))


def test_one_connection_serves_thirty_requests(api: Api) -> None:
    with make_client(api.server.base_url) as client:
        ports = set()
        for _ in range(30):
            with client.stream("GET", "/v1/models") as response:
                response.read()
                ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
                assert response.status_code == 200, f"GET /v1/models: {response.status_code}"
        for _ in range(3):
            asking.ask(client, _small(api))
            asking.ask_stream(client, _small(api).but(stream=True))
    # A busy client may let a connection go idle for longer than the server keeps it.
    must(len(ports) <= 3, "A connection must be kept alive", expected=1, seen=len(ports))


def test_a_connection_lives_on_after_a_refusal(api: Api) -> None:
    with make_client(api.server.base_url) as client:
        for _ in range(3):
            bad = asking.send(client, _small(api).but(max_tokens="abc"))
            bad.check(lambda a: must(400 <= a.status < 500, "It must be refused", seen=a.status))
            good = asking.ask(client, _small(api))
            must(len(good.json["choices"]) == 1, "The next request must be answered")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_may_ask_for_the_connection_to_be_closed(api: Api, streamed: bool) -> None:
    request = replace(_small(api).but(stream=streamed), headers={"Connection": "close"})
    answer = api.whole(request) if streamed else api.ask(request)

    def check(seen: Answer) -> None:
        said = seen.headers.get("connection", "").lower()
        rule = "A connection that the client wants closed must be said to be closed"
        must(said == "close" or not api.dialect.is_vllm, rule, expected="close", seen=said)

    answer.check(check)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_the_headers_of_an_answer_are_right(api: Api, streamed: bool) -> None:
    def check(answer: Answer) -> None:
        headers = answer.headers
        length = headers.get("content-length")
        must(
            length is None or int(length) == len(answer.content),
            "Content-Length must be the length of the body",
            expected=len(answer.content),
            seen=length,
        )
        must(
            not (length and headers.get("transfer-encoding")),
            "An answer must not have both Content-Length and Transfer-Encoding",
        )
        must(
            headers.get("content-encoding", "identity") == "identity",
            "An answer must not be compressed unasked",
            seen=headers.get("content-encoding"),
        )
        kind = "text/event-stream" if streamed else "application/json"
        seen = headers.get("content-type", "").partition(";")[0]
        must(seen == kind, f"The content type must be {kind}", seen=seen)
        date = headers.get("date")
        if api.dialect.is_vllm:
            must(date is not None, "There must be a Date", seen=dict(headers))
        if date is not None:
            off = abs(parsedate_to_datetime(date).timestamp() - time.time())
            must(off < _CLOCK_S, "The Date must be now", seen=date)

    request = _small(api).but(stream=True) if streamed else _small(api)
    plain = Request(request.method, request.path, request.body, {"Accept-Encoding": "identity"})
    api.send(plain).check(check)


@pytest.mark.parametrize(
    "header",
    [
        "Accept: text/html",
        "Accept: */*",
        "Accept: text/event-stream",
        "ACCEPT: application/json",
        "X-Request-Id: 5f0c",
        "x-request-id: a b/c",
        "Accept-Encoding: gzip, br, zstd",
        "Accept-Encoding: identity",
        "Origin: http://pytest-vllm.example",
        "User-Agent: x",
        "Cookie: a=b",
        "Expect: 100-continue",
        "Cache-Control: no-cache",
        "OpenAI-Organization: org-x",
    ],
)
def test_a_header_changes_nothing(api: Api, header: str) -> None:
    name, _, value = header.partition(": ")
    request = _small(api)
    other = Request(request.method, request.path, request.body, {name: value})
    for last in (False, True):
        expected, seen = api.ask(request).json["choices"], _read_loosely(api, other)
        if expected == seen:
            return
        must(not last, f"{name} must not change the answer", expected=expected, seen=seen)


def _read_loosely(api: Api, request: Request) -> object:
    """The choices; an id that the client chose is no id of vLLM's making."""
    answer = api.send(request)
    answer.check(lambda a: must(a.status == 200, "It must be answered", seen=a.status))
    return answer.json["choices"]


@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM, `serving_engine._base_request_id`")
def test_the_id_of_a_request_becomes_the_id_of_its_answer(api: Api) -> None:
    request = _small(api)
    mine = Request(request.method, request.path, request.body, {"X-Request-Id": "pytest-vllm-5f0c"})
    # Twice: an id that was used must not be in the way.
    for _ in range(2):
        seen = api.ask(mine).json["id"]
        must("pytest-vllm-5f0c" in seen, "The id must be X-Request-Id", seen=seen)


@pytest.mark.parametrize(
    "spelling", ["escaped", "raw", "spaced", "with a byte order mark", "sorted backwards"]
)
def test_one_json_may_be_written_in_many_ways(api: Api, spelling: str) -> None:
    if spelling == "with a byte order mark" and not api.dialect.is_vllm:
        api.unsupported("RFC 8259 leaves it to the server")
    body = dict(completion(api.model, "Grüße 你好 😀", max_tokens=4).body or {})
    content = {
        "escaped": lambda: json.dumps(body).encode(),
        "raw": lambda: json.dumps(body, ensure_ascii=False).encode(),
        "spaced": lambda: json.dumps(body, indent=4).replace("\n", "\r\n\t").encode(),
        "with a byte order mark": lambda: b"\xef\xbb\xbf" + json.dumps(body).encode(),
        "sorted backwards": lambda: json.dumps(dict(reversed(body.items()))).encode(),
    }[spelling]()
    headers = {"Content-Type": "application/json"}
    request = Request("POST", "/v1/completions", body, headers, content)
    for last in (False, True):
        expected = api.ask(Request("POST", "/v1/completions", body)).json
        seen = api.ask(request).json
        if (expected["choices"], expected["usage"]) == (seen["choices"], seen["usage"]):
            return
        must(not last, "The spelling of the JSON must not matter", expected=expected, seen=seen)


def test_a_null_character_in_a_prompt_does_no_harm(api: Api) -> None:
    api.ask(completion(api.model, "a\x00b", max_tokens=2))


@pytest.mark.requires("vllm")
def test_a_megabyte_that_is_not_the_prompt_does_no_harm(api: Api) -> None:
    api.ask(_small(api).but(user="a" * 1_000_000))
