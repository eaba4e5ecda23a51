"""Exchanges with the fake server's healthy or broken answers, without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_vllm.client.exchange import Answer, Request, Stream
from pytest_vllm.client.sse import events
from pytest_vllm.client.stream import chunks
from tests.faults.catalogue import FAULTS
from tests.faults.healthy import Healthy

if TYPE_CHECKING:
    from tests.faults.reply import Reply

CURL = "curl -sS http://127.0.0.1/"


def reply_to(request: Request, *faults: str, chat: bool = True) -> Reply:
    body = dict(request.body or {})
    reply = Healthy(body.get("model", "m"), chat=chat).reply(request.method, request.path, body)
    for name in faults:
        assert FAULTS[name].concerns(request.path, body, count=99)
        reply = FAULTS[name].apply(reply)
    return reply


def answer_to(request: Request, *faults: str) -> Answer:
    reply = reply_to(request, *faults)
    headers = {"content-type": reply.content_type}
    return Answer(request, CURL, reply.status, headers, reply.content())


def stream_to(request: Request, *faults: str) -> Stream:
    reply = reply_to(request, *faults)
    found: list[dict[str, Any]] = list(chunks(events(reply.frames())))
    headers = {"content-type": reply.content_type}
    return Stream(request, CURL, reply.status, headers, tuple(found), tuple(0.0 for _ in found))
