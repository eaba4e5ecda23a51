"""What goes wrong on order, as a healthy server does not: fakes, and said to be so."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import StartFailed
from pytest_vllm.models.capabilities import Capabilities, Verdict
from pytest_vllm.servers.server import Instance, Server, State

if TYPE_CHECKING:
    from pytest_vllm.spec import ServerSpec

#: Status and JSON body, or None for a connection that is reset without an answer.
Answer = tuple[int, Any] | None
Reply = Callable[[], Answer]


def always(status: int, body: Any = None) -> Reply:
    """The same answer every time."""
    return lambda: (status, body)


def in_turn(*answers: Answer) -> Reply:
    """One answer after the other; the last one stays."""
    left = list(answers)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


@dataclass
class FakeHttp:
    """A local HTTP server whose replies a test may change."""

    url: str = ""
    replies: dict[str, Reply] = field(
        default_factory=lambda: {
            "/health": always(200),
            "/v1/models": always(200, {"data": [{"id": "m"}]}),
            "/v1/completions": always(200, {"choices": [{"text": " a"}]}),
        }
    )
    #: Path -> the last JSON body that was sent there.
    bodies: dict[str, Any] = field(default_factory=dict)


@contextmanager
def fake_http() -> Iterator[FakeHttp]:
    """Serve on a port of the kernel's choice, in a thread."""
    fake = FakeHttp()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = fake.replies.get(self.path, always(404))()
            if answer is None:
                self._reset()
            else:
                self.send_response(answer[0])
                self.end_headers()
                self.wfile.write(json.dumps(answer[1]).encode())

        def do_POST(self) -> None:
            fake.bodies[self.path] = json.loads(
                self.rfile.read(int(self.headers["Content-Length"]))
            )
            self.do_GET()

        def _reset(self) -> None:
            """Close with RST, as Docker's proxy does while nobody listens in the container."""
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
            self.wfile = self.rfile

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


class FakeInstance:
    """A server that lives, ends and stops as the test says.

    `before_poll` is called at every look at the address, which is once per poll.
    """

    def __init__(self, url: str | None = None, log: Path | None = None) -> None:
        self.name = "fake server"
        self.url = url
        self.log_path = log
        self.facts: dict[str, str] = {}
        self.look_closer: tuple[str, ...] = ()
        self.end: State | None = None
        self.stops = 0
        self.before_poll: Callable[[], None] = lambda: None

    @property
    def base_url(self) -> str | None:
        self.before_poll()
        return self.url

    def state(self) -> State:
        return self.end or State(running=True)

    def stop(self) -> None:
        self.stops += 1
        self.end = self.end or State(False, 0)

    def write(self, *lines: str) -> None:
        """Add lines to the log."""
        assert self.log_path is not None
        with self.log_path.open("a") as log:
            log.writelines(f"{line}\n" for line in lines)


class FakeTime:
    """A clock that only moves when somebody sleeps: hours pass at once."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class WatchedCondition(threading.Condition):
    """A condition that says when somebody waits for it, so that a test need not guess."""

    def __init__(self) -> None:
        super().__init__()
        self.somebody_waits = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        """Say so, and wait; nobody can notify before, since the lock is held."""
        self.somebody_waits.set()
        return super().wait(timeout)


class FakeLauncher:
    """Starts fake servers, and writes down what happens to them: `start a`, `stop a`."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.instances: dict[str, FakeInstance] = {}
        #: Where the servers are said to listen.
        self.url = ""
        #: Called with the model before a server is launched, and while it gets ready.
        self.before_launch: Callable[[str], None] = lambda model: None
        self.while_starting: Callable[[str], None] = lambda model: None

    def resolve(self, spec: ServerSpec) -> ServerSpec:
        return spec

    def launch(
        self, spec: ServerSpec, register: Callable[[Instance], None], say: Callable[[str], None]
    ) -> Instance:
        self.before_launch(spec.model)
        instance = self.instances[spec.model] = _Noted(spec.model, self.url, self.events)
        register(instance)
        self.events.append(f"start {spec.model}")
        return instance

    def make_ready(self, instance: Instance, spec: ServerSpec, *_: object) -> Server:
        """Stands in for the wait, the probes and all."""
        self.while_starting(spec.model)
        if not instance.state().running:
            raise StartFailed(f"{spec.model} did not start: it ended\nmore lines of the report")
        return Server(
            base_url="http://127.0.0.1:1",
            model=spec.model,
            spec=spec,
            name=instance.name,
            log_path=None,
            version="",
            startup_s=0.0,
            capabilities=Capabilities(Verdict("base", "server", "a fake")),
        )


class _Noted(FakeInstance):
    """An instance that writes down its end."""

    def __init__(self, model: str, url: str, events: list[str]) -> None:
        super().__init__(url)
        self.name = model
        self._events = events

    def stop(self) -> None:
        if not self.stops:
            self._events.append(f"stop {self.name}")
        super().stop()
