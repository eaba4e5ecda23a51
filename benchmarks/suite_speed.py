"""How much the suite adds to its requests, and what sending tests ahead of their turn saves.

    python benchmarks/suite_speed.py URL [ROUNDS]

URL is a warm server with a known-answer model. One run of the suite is recorded; then

(a) the suite and a bare httpx client with the same requests at the same concurrency (16) take
    turns, and the medians of their wall times are compared; goal: at most 1.5;
(b) a mock answers with what was recorded, at the pace of a GPU server (50 ms to the first token,
    15 ms per token), to the suite at concurrency 1 and at 16; goal: at least 8 times faster.

Tests that are `alone` on the server are left out: they are one by one by their nature.
"""

from __future__ import annotations

import base64
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

CONCURRENCY = 16
FIRST_TOKEN_S, NEXT_TOKEN_S = 0.050, 0.015
SUITE = ["--pyargs", "pytest_vllm.suite", "-q", "-p", "no:cacheprovider", "-Wdefault"]
SUITE += ["-m", "not alone"]

Record = dict[str, Any]


class Recording(httpx.BaseTransport):
    """Sends as ever, and keeps what was sent and what came back."""

    def __init__(self, records: list[Record]) -> None:
        self.inner, self.records = httpx.HTTPTransport(), records

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, read all, keep both."""
        response = self.inner.handle_request(request)
        content = b"".join(response.iter_raw())
        response.close()
        self.records.append(
            {
                "method": request.method,
                "path": request.url.path,
                "content": request.read().decode("latin-1"),
                "type": request.headers.get("content-type", ""),
                "status": response.status_code,
                "answer_type": response.headers.get("content-type", ""),
                "answer": base64.b64encode(content).decode(),
            }
        )
        return httpx.Response(response.status_code, headers=response.headers, content=content)

    def close(self) -> None:
        """End the connections."""
        self.inner.close()


def record(url: str) -> list[Record]:
    """Run the suite in this process, through recording clients."""
    from pytest_vllm.client import http

    records: list[Record] = []
    plain = http._options
    http._options = lambda base: {**plain(base), "transport": Recording(records)}  # type: ignore[assignment]
    try:
        pytest.main([*SUITE, f"--vllm-url={url}", "--no-summary"])
    finally:
        http._options = plain
    return records


def suite_s(url: str, concurrency: int) -> float:
    """Wall time of one run of the suite, by its own results."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "r.json"
        options = [f"--vllm-url={url}", f"--vllm-concurrency={concurrency}"]
        command = [sys.executable, "-m", "pytest", *SUITE, *options, f"--vllm-results={results}"]
        subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        return float(json.loads(results.read_text())["run"]["duration_s"])


def bare_s(url: str, records: list[Record]) -> float:
    """Wall time of the same requests, sent by threads and not looked at."""
    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(CONCURRENCY) as pool:

        def send(r: Record) -> None:
            headers = {"content-type": r["type"]} if r["type"] else {}
            client.request(
                r["method"], r["path"], content=r["content"].encode("latin-1"), headers=headers
            )

        began = time.monotonic()
        list(pool.map(send, records))
        return time.monotonic() - began


class Mock(BaseHTTPRequestHandler):
    """Answers with what was recorded, at the pace of a GPU server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    answers: dict[tuple[str, str, str], list[Record]]

    def do_GET(self) -> None:
        """Answer what was recorded for this very request, in turn."""
        content = self.rfile.read(int(self.headers.get("content-length", 0))).decode("latin-1")
        found = self.answers.get((self.command, self.path, content))
        if found is None:
            self._send(200 if self.path == "/health" else 404, "application/json", [b"{}"], 0)
            return
        record = found[0]
        found.append(found.pop(0))
        content_type, body = record["answer_type"], base64.b64decode(record["answer"])
        if not content_type.startswith("text/event-stream"):
            self._send(record["status"], content_type, [body], _tokens(body))
            return
        self._send(200, content_type, [e + b"\n\n" for e in body.split(b"\n\n") if e], 0)

    do_POST = do_HEAD = do_OPTIONS = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _send(self, status: int, content_type: str, parts: list[bytes], tokens: int) -> None:
        if tokens or len(parts) > 1:
            time.sleep(FIRST_TOKEN_S + NEXT_TOKEN_S * max(0, tokens - 1))
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(sum(map(len, parts))))
        self.end_headers()
        for number, part in enumerate(parts):
            time.sleep(NEXT_TOKEN_S if number else 0)
            self.wfile.write(part)


def _tokens(body: bytes) -> int:
    """How many steps an unstreamed answer takes: those of one of its choices."""
    try:
        answer = json.loads(body)
        usage = answer["usage"]
        total = usage.get("completion_tokens", usage.get("output_tokens", 0))
        return -(-int(total) // max(1, len(answer.get("choices", [0]))))
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0


def serve(path: str) -> None:
    """Be the mock, in a process of its own."""
    Mock.answers = defaultdict(list)
    for r in json.loads(Path(path).read_text()):
        Mock.answers[r["method"], r["path"], r["content"]].append(r)
    Mock.answers = dict(Mock.answers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mock)
    server.daemon_threads, server.request_queue_size = True, 128
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def main(url: str, rounds: int) -> None:
    """Measure and print."""
    records = record(url)
    pairs = [(suite_s(url, CONCURRENCY), bare_s(url, records)) for _ in range(rounds)]
    suite, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"(a) {len(records)} requests: suite {suite:.1f} s, bare client {bare:.1f} s")
    print(f"    ratio {suite / bare:.2f} (goal: at most 1.5)", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        path.write_text(json.dumps(records))
        command = [sys.executable, __file__, "--mock", str(path)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as mock:
            assert mock.stdout is not None
            address = mock.stdout.readline().strip()
            one, many = suite_s(address, 1), suite_s(address, CONCURRENCY)
            mock.kill()
    print(f"(b) at the pace of a GPU: {one:.1f} s one by one, {many:.1f} s at {CONCURRENCY}")
    print(f"    {one / many:.1f} times faster (goal: at least 8)")


if __name__ == "__main__":
    if sys.argv[1] == "--mock":
        serve(sys.argv[2])
    else:
        main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
