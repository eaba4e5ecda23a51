"""Whoever had a server to itself must leave it idle."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_vllm import aftermath
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.models.capabilities import Capabilities, Verdict
from pytest_vllm.servers.server import Server
from pytest_vllm.spec import ServerSpec


class Engine:
    """Says how many requests run."""

    running = 0

    @property
    def text(self) -> bytes:
        name = "vllm:num_requests_running"
        return f"# HELP {name} n\n# TYPE {name} gauge\n{name} {self.running}\n".encode()


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def server(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(engine.text)))
            self.end_headers()
            self.wfile.write(engine.text)

        def log_message(self, format: str, *args: object) -> None: ...

    monkeypatch.setattr(aftermath, "LIMIT_S", 0.1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        able = Capabilities(Verdict("base", "user", ""), names=frozenset({"metrics"}))
        url = f"http://127.0.0.1:{http.server_address[1]}"
        yield Server(url, "m", ServerSpec("m"), "x", None, "", None, able)
        http.shutdown()


def test_an_idle_server_is_fine(server: Server) -> None:
    with aftermath.leaves_it_idle(server):
        pass


def test_a_request_left_behind_is_blamed_on_the_test(server: Server, engine: Engine) -> None:
    def leaves() -> None:
        with aftermath.leaves_it_idle(server):
            engine.running = 1

    with pytest.raises(CheckFailed, match="a test that was alone the server must be idle"):
        leaves()


def test_nobody_is_blamed_where_others_use_the_server(server: Server, engine: Engine) -> None:
    engine.running = 1
    with aftermath.leaves_it_idle(server):
        pass


def test_the_failure_of_the_test_itself_is_not_hidden(server: Server, engine: Engine) -> None:
    def fails() -> None:
        with aftermath.leaves_it_idle(server):
            engine.running = 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
