from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from pytest_vllm.client.ask import ask, ask_stream, send, send_stream
from pytest_vllm.client.exchange import Answer, Request, Stream
from pytest_vllm.client.failure import CheckFailed, NoAnswer
from pytest_vllm.client.http import make_client
from pytest_vllm.errors import ChatNotSupported
from pytest_vllm.suite.ask_for import chat, completion, streamed
from tests.fake_server import FakeServer

MODEL = "facebook/opt-125m"
COMPLETION = completion(MODEL)
STREAM = streamed(COMPLETION)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(MODEL, api_key="s3cret") as fake:
        yield fake


@pytest.fixture
def client(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setenv("VLLM_API_KEY", "s3cret")
    with make_client(server.url) as made:
        yield made


def test_an_answer_has_everything(client: httpx.Client, server: FakeServer) -> None:
    answer = ask(client, COMPLETION)
    assert (answer.status, answer.request) == (200, COMPLETION)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["choices"][0]["text"] == "tuvwxyz."
    assert server.requests[-1].body == COMPLETION.body
    assert answer.curl.startswith(f"curl -sS {server.url}/v1/completions -H ")


def test_a_stream_has_chunks_and_times(client: httpx.Client, server: FakeServer) -> None:
    stream = ask_stream(client, STREAM)
    assert [choice["text"] for choice in stream.choices] == ["tu", "vw", "xy", "z.", ""]
    assert list(stream.times) == sorted(stream.times)
    assert len(stream.times) == len(stream.chunks)
    assert stream.curl.startswith("curl -sSN ")


def test_another_status_shows_the_servers_words(client: httpx.Client, server: FakeServer) -> None:
    server.faults = {"completions_500"}
    with pytest.raises(CheckFailed) as whole:
        ask(client, COMPLETION)
    with pytest.raises(CheckFailed) as streamed_:
        ask_stream(client, STREAM)
    for caught, command in ((whole, "curl -sS"), (streamed_, "curl -sSN")):
        first, curl = str(caught.value).splitlines()
        assert first == "POST /v1/completions must be answered with 200: got 500: it broke"
        assert curl.startswith(f"  {command} {server.url}/v1/completions")
    assert ask(client, COMPLETION, status=500).status == 500


def test_a_base_model_refuses_chat(client: httpx.Client) -> None:
    with pytest.raises(ChatNotSupported, match="refused with 400: As of transformers"):
        ask(client, chat(MODEL))
    with pytest.raises(ChatNotSupported, match="refused with 400: As of transformers"):
        ask_stream(client, streamed(chat(MODEL)))


@pytest.mark.parametrize("fault", ["chat_500", "chat_400", "hangs_up"])
def test_no_other_failure_is_a_refusal(
    client: httpx.Client, server: FakeServer, fault: str
) -> None:
    server.faults = {fault}
    with pytest.raises(CheckFailed):
        ask(client, chat(MODEL))


def test_an_expected_status_is_no_refusal(client: httpx.Client) -> None:
    assert ask(client, chat(MODEL), status=400).status == 400


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no_stream", 'must have the content type text/event-stream: got "text/plain"'),
        ("no_done", r"A stream must end with `data: \[DONE\]`"),
        ("done_twice", r"Nothing must follow `data: \[DONE\]`"),
        ("data_after_done", r"Nothing must follow `data: \[DONE\]`"),
        ("no_data_field", "Every line of a stream must be an SSE field"),
        ("no_blank_lines", "Every event of a stream must end with a blank line"),
        ("last_blank_line_lost", "Every event of a stream must end with a blank line"),
        ("broken_chunk", "Every event of a stream must be one JSON object"),
        ("chunk_is_list", r"Every event of a stream must be one JSON object: got \[\]"),
        ("error_in_stream", 'A stream must not break off with an error: got "it broke"'),
        ("bad_utf8", "A stream must be UTF-8"),
        ("cut", "POST /v1/completions must be answered in full: got RemoteProtocolError"),
    ],
)
def test_each_broken_rule_of_framing_is_found(
    client: httpx.Client, server: FakeServer, fault: str, message: str
) -> None:
    server.faults = {fault}
    with pytest.raises(CheckFailed, match=message) as caught:
        ask_stream(client, STREAM)
    assert str(caught.value).count("curl -sSN") == 1


def test_whatever_comes_back_can_be_looked_at(client: httpx.Client, server: FakeServer) -> None:
    missing = send(client, Request("GET", "/nothing"))
    assert (missing.status, missing.json) == (404, {"detail": "Not Found"})
    assert isinstance(send_stream(client, STREAM), Stream)
    assert isinstance(send_stream(client, COMPLETION), Answer)


def test_a_connection_that_is_refused_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with make_client(url) as client, pytest.raises(NoAnswer) as caught:
        ask(client, COMPLETION)
    first, curl = str(caught.value).splitlines()
    assert first.startswith("POST /v1/completions must be answered in full: got ConnectError after")
    assert curl.startswith(f"  curl -sS {url}/v1/completions")


def test_a_stream_that_drips_ends_at_the_deadline(client: httpx.Client, server: FakeServer) -> None:
    server.faults = {"is_slow"}
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"must be complete within 0\.5 s: got \d+ bytes, and still"):
        send_stream(client, STREAM, deadline_s=0.5)
    assert time.monotonic() - began < 1.0


def test_silence_ends_at_the_deadline(client: httpx.Client, server: FakeServer) -> None:
    server.faults = {"is_slow"}
    with pytest.raises(NoAnswer, match=r"got ReadTimeout after 0\.\d s"):
        send(client, COMPLETION, deadline_s=0.1)


def test_the_clients_own_limit_counts_where_it_is_shorter(
    client: httpx.Client, server: FakeServer
) -> None:
    server.faults = {"is_slow"}
    client.timeout = httpx.Timeout(0.1)
    with pytest.raises(NoAnswer, match=r"got ReadTimeout after 0\.\d s"):
        send(client, COMPLETION)


def test_the_key_is_in_no_message(client: httpx.Client, server: FakeServer) -> None:
    answer = ask(client, COMPLETION)
    server.faults = {"hangs_up"}
    with pytest.raises(NoAnswer) as caught:
        ask(client, COMPLETION)
    for text in (answer.curl, repr(answer), str(caught.value), repr(caught.value)):
        assert "s3cret" not in text
    assert '-H "Authorization: Bearer $VLLM_API_KEY"' in answer.curl


def test_without_a_key_no_header_is_shown(server: FakeServer) -> None:
    server.api_key = None
    with make_client(server.url) as client:
        assert "Authorization" not in ask(client, COMPLETION).curl


def test_a_failure_names_the_line_of_the_test_and_nothing_else(
    client: httpx.Client, server: FakeServer
) -> None:
    server.faults = {"no_done"}
    with pytest.raises(CheckFailed) as caught:
        ask_stream(client, STREAM)
    visible = [entry for entry in caught.traceback if not entry.ishidden(caught)]
    assert [entry.name for entry in visible] == [
        "test_a_failure_names_the_line_of_the_test_and_nothing_else"
    ]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_stream_in_another_character_set_is_a_broken_rule() -> None:
    headers = {"content-type": "text/event-stream; charset=latin-1"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=b""))
    with (
        httpx.Client(transport=transport, base_url="http://127.0.0.1") as client,
        pytest.raises(CheckFailed, match="must be in UTF-8"),
    ):
        ask_stream(client, STREAM)
