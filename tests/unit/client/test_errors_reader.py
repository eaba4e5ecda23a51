from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers import errors

VLLM = Dialect((0, 32))
OTHER = Dialect(None)
REQUEST = Request("POST", "/v1/completions", {"model": "m"})
GOOD = {
    "message": "top_p must be in (0, 1], got 2.0.",
    "type": "BadRequestError",
    "param": "top_p",
    "code": 400,
}


def refusal(content: Any, status: int = 400, media_type: str = "application/json") -> Answer:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Answer(REQUEST, "curl", status, {"content-type": media_type}, data)


def error(**fields: Any) -> Answer:
    body = {key: value for key, value in {**GOOD, **fields}.items() if value is not ...}
    return refusal({"error": body})


def test_a_good_refusal_gives_its_message() -> None:
    assert errors.read(error(), 400, VLLM) == GOOD["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"message": ""},
        {"message": None},
        {"message": ["x"]},
        {"type": ...},
        {"type": ""},
        {"type": "InternalServerError"},
        {"type": "NotFoundError"},
        {"param": ...},
        {"param": 5},
        {"param": ""},
        {"code": ...},
        {"code": 500},
        {"code": "400"},
    ],
    ids=str,
)
def test_a_spoiled_envelope_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(CheckFailed):
        errors.read(error(**fields), 400, VLLM)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Traceback (most recent call last): …", "a traceback"),
        ('File "/x/y.py", line 5, in f', "a traceback"),
        ("cannot read /root/.cache/huggingface/x", "a path"),
        ("in site-packages", "a path"),
        ("<object at 0x7f3a5c0d1e50>", "an address"),
        ("<html><body>502</body></html>", "HTML"),
        ("'NoneType' object is not iterable", "the words of a Python error"),
        ("'str' object has no attribute 'get'", "the words of a Python error"),
    ],
)
def test_a_message_is_no_window_into_the_server(message: str, shown: str) -> None:
    with pytest.raises(CheckFailed, match=shown):
        errors.read(error(message=message), 400, VLLM)


def test_a_message_is_bounded() -> None:
    with pytest.raises(CheckFailed, match="at most"):
        errors.read(error(message="x" * (errors.LONGEST + 1)), 400, VLLM)


def test_another_status_is_told() -> None:
    with pytest.raises(CheckFailed, match="must be refused with 400"):
        errors.read(refusal({"error": GOOD}, status=500), 400, VLLM)


def test_the_content_type_is_json() -> None:
    with pytest.raises(CheckFailed, match="content type"):
        errors.read(refusal({"error": GOOD}, media_type="text/html"), 400, VLLM)


def test_other_servers_need_no_param() -> None:
    errors.read(error(param=..., code=..., type="invalid_request_error"), 400, OTHER)


def test_a_detail_will_do_only_where_the_endpoint_was_not_reached() -> None:
    answer = refusal({"detail": "Not Found"}, status=404)
    assert errors.read(answer, 404, VLLM, plain=True) == "Not Found"
    with pytest.raises(CheckFailed, match="An error must be"):
        errors.read(answer, 404, VLLM)


def test_a_stream_may_begin_with_its_refusal() -> None:
    content = b"data: " + json.dumps({"error": GOOD}).encode() + b"\n\ndata: [DONE]\n\n"
    answer = errors.from_stream(refusal(content, 200, "text/event-stream"))
    assert (answer.status, errors.read(answer, 400, VLLM)) == (400, GOOD["message"])


@pytest.mark.parametrize(
    "content",
    [
        b'data: {"error": {"code": 400}}\n\n',
        b'data: {"id": "x"}\n\ndata: {"error": {"code": 400}}\n\ndata: [DONE]\n\n',
        b'data: {"choices": []}\n\ndata: [DONE]\n\n',
        b"data: broken\n\ndata: [DONE]\n\n",
    ],
)
def test_a_stream_that_is_refused_brings_nothing_else(content: bytes) -> None:
    with pytest.raises(CheckFailed):
        errors.from_stream(refusal(content, 200, "text/event-stream"))
