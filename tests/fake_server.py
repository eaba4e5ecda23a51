"""A small OpenAI-compatible server that is healthy, or broken in exactly the ways asked for.

    with FakeServer("facebook/opt-125m", faults={"no_done"}) as server:
        httpx.get(server.url + "/v1/models")

    python tests/fake_server.py --model facebook/opt-125m --chat --fault no_done

It stands in where a real server is too healthy: for faults, and for tests of the plugin itself.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.faults.catalogue import FAULTS
from tests.faults.healthy import Healthy
from tests.faults.reply import Reply

_OPEN_PATHS = frozenset({"/health", "/version", "/docs", "/openapi.json", "/tokenize"})


@dataclass(frozen=True)
class Received:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class FakeServer:
    """The server, in threads of this process.

    `faults` may be changed while it runs; `requests` is everything that came in.
    """

    def __init__(
        self,
        model: str = "facebook/opt-125m",
        *,
        chat: bool = False,
        faults: Iterable[str] = (),
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self.model = model
        self.faults = set(faults)
        if unknown := self.faults - FAULTS.keys():
            raise ValueError(f"no such fault: {sorted(unknown)}")
        self.api_key = api_key
        self.requests: list[Received] = []
        self.healthy = Healthy(model, chat=chat or model == "known-answer/chat")
        self._counts: Counter[str] = Counter()
        self._http = _HTTPServer(("127.0.0.1", port), _Handler)
        self._http.fake = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> FakeServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Accept nothing any more. Idempotent."""
        self._http.shutdown()
        self._http.server_close()

    def reply(self, request: Received) -> Reply:
        """The healthy answer, changed by the faults."""
        self.requests.append(request)
        self._counts[request.path] += 1
        if not self._may_enter(request):
            return Reply({"error": "Unauthorized"}, status=401)
        reply = self.healthy.reply(request.method, request.path, request.body)
        for fault in (FAULTS[name] for name in sorted(self.faults)):
            if fault.concerns(request.path, request.body, self._counts[request.path]):
                reply = fault.apply(reply)
        if reply.dies:
            self.stop()
        return reply

    def _may_enter(self, request: Received) -> bool:
        if self.api_key is None or request.path in _OPEN_PATHS:
            return True
        return request.headers.get("authorization") == f"Bearer {self.api_key}"


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # the client went away
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _HTTPServer

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer(json.loads(content or b"{}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: dict[str, Any]) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Received(self.command, urlsplit(self.path).path, headers, body)
        reply = self.server.fake.reply(request)
        if reply.silent or reply.dies:
            self._hang_up()
        elif reply.chunks is None:
            self._send_whole(reply)
        else:
            self._send_stream(reply)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send_whole(self, reply: Reply) -> None:
        content = reply.content()
        self._send_head(reply, "content-length", str(len(content)))
        time.sleep(reply.pause_s)
        self.wfile.write(content)

    def _send_stream(self, reply: Reply) -> None:
        self._send_head(reply, "transfer-encoding", "chunked")
        frames = reply.frames()
        for frame in frames[: len(frames) // 2] if reply.cut else frames:
            time.sleep(reply.pause_s)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        if reply.cut:
            self._hang_up()
        else:
            self.wfile.write(b"0\r\n\r\n")

    def _send_head(self, reply: Reply, name: str, value: str) -> None:
        self.send_response(reply.status)
        self.send_header("content-type", reply.content_type)
        self.send_header(name, value)
        self.end_headers()


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="facebook/opt-125m")
    parser.add_argument("--chat", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], choices=sorted(FAULTS))
    options = parser.parse_args()
    faults, port = set(options.fault), options.port
    with FakeServer(options.model, chat=options.chat, faults=faults, port=port) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
