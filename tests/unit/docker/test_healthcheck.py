from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ([], "8000"),
        (["vllm", "serve", "M"], "8000"),
        (["vllm", "serve", "M", "--port", "9000"], "9000"),
        (["vllm", "serve", "M", "--port=9001", "--x"], "9001"),
        (["vllm", "serve", "M", "--port", "1", "--port", "2"], "2"),
        (["vllm", "serve", "M", "--port"], "8000"),
        (["VLLM::APIServer"], "8000"),
    ],
)
def test_the_port_is_the_servers_own(healthcheck: ModuleType, words: list[str], port: str) -> None:
    assert healthcheck.port(words) == port


@pytest.fixture
def port() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(healthcheck: ModuleType, tmp_path: Path, *words: str) -> object:
    cmdline = tmp_path / "cmdline"
    cmdline.write_bytes("\0".join(words).encode() + b"\0")
    return healthcheck.main(cmdline)


def test_a_healthy_server_is_healthy(healthcheck: ModuleType, tmp_path: Path, port: int) -> None:
    assert ask(healthcheck, tmp_path, "vllm", "serve", "M", "--port", str(port)) == 0


def test_nobody_listening_is_unhealthy(
    healthcheck: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(healthcheck, tmp_path, "vllm", "serve", "M", "--port=1") == 1
    assert "refused" in capsys.readouterr().out
