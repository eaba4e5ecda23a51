"""A small HTTP/1.1 server and client on threads that pass bytes on at once, aborts included.

    with serving(Upstream("http://127.0.0.1:8000")) as url: …     # a proxy that changes nothing

A handler takes an `Ask` and a function that says whether the client has gone, and gives a `Reply`.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from urllib.parse import urlsplit

import h11

from tests.proxy.messages import Ask, Cut, Reply, error

Gone = Callable[[], bool]
Handler = Callable[[Ask, Gone], Reply]

#: Headers that belong to one connection, not to the message.
_HOP = frozenset(
    {"connection", "expect", "keep-alive", "transfer-encoding", "content-length", "date"}
)
_SIZE = 65536


class Upstream:
    """Passes a request on to a real server, on a connection of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.address = (parts.hostname or "127.0.0.1", parts.port or 80)

    def __call__(self, ask: Ask, gone: Gone) -> Reply:
        """Send; the parts of the answer come as they come. Nobody waits for a client that left."""
        sock = socket.create_connection(self.address)
        connection = h11.Connection(h11.CLIENT)
        headers = [(k, v) for k, v in ask.headers.items() if k not in {*_HOP, "host"}]
        headers += [("host", "{}:{}".format(*self.address)), ("connection", "close")]
        if ask.content or ask.method == "POST":
            headers.append(("content-length", str(len(ask.content))))
        request = h11.Request(method=ask.method, target=ask.path, headers=headers)
        sock.sendall(connection.send(request) or b"")
        sock.sendall((connection.send(h11.Data(ask.content)) or b"") if ask.content else b"")
        connection.send(h11.EndOfMessage())
        events = _events(sock, connection, None if ask.to_its_end else gone)
        head = next((e for e in events if not isinstance(e, h11.InformationalResponse)), None)
        if not isinstance(head, h11.Response):
            sock.close()
            return Reply(502, {}, _cut())
        answered = {k.decode().lower(): v.decode() for k, v in head.headers}
        kept = {k: v for k, v in answered.items() if k not in _HOP}
        if "content-length" in answered:
            kept["content-length"] = answered["content-length"]
        return Reply(head.status_code, kept, _parts(sock, events))


def _cut() -> Iterator[bytes]:
    yield from ()
    raise Cut


def _events(
    sock: socket.socket, connection: h11.Connection, gone: Gone | None
) -> Iterator[h11.Event]:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            while not select.select([sock], [], [], 0.05)[0]:
                if gone is not None and gone():
                    sock.close()
                    return
            try:
                connection.receive_data(sock.recv(_SIZE))
            except OSError:
                return
        elif isinstance(event, h11.Event):
            yield event
            if isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                return


def _parts(sock: socket.socket, events: Iterator[h11.Event]) -> Iterator[bytes]:
    try:
        complete = False
        for event in events:
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            complete = complete or isinstance(event, h11.EndOfMessage)
        if not complete:
            raise Cut
    except h11.RemoteProtocolError:
        raise Cut from None
    finally:
        sock.close()


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """Serve on a free port of the loopback; gives the base URL."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    threading.Thread(target=_accept, args=(listener, handler), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        # Closing alone does not wake a thread that waits in accept().
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept(listener: socket.socket, handler: Handler) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = listener.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_converse, args=(sock, handler), daemon=True).start()


def _converse(sock: socket.socket, handler: Handler) -> None:
    connection = h11.Connection(h11.SERVER)
    with sock, contextlib.suppress(OSError, h11.ProtocolError, Cut):
        while (ask := _read(sock, connection)) is not None:
            _answer(sock, connection, ask, handler)
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()


def _read(sock: socket.socket, connection: h11.Connection) -> Ask | None:
    head, content = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                sock.sendall(connection.send(go_on) or b"")
            connection.receive_data(sock.recv(_SIZE))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {k.decode().lower(): v.decode("latin-1") for k, v in head.headers}
            return Ask(head.method.decode(), head.target.decode(), headers, content)
        else:
            return None


def _answer(sock: socket.socket, connection: h11.Connection, ask: Ask, handler: Handler) -> None:
    def gone() -> bool:
        """Whether the client closed its side: then there is something to read, and it is b""."""
        if not select.select([sock], [], [], 0)[0]:
            return False
        try:
            return sock.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True

    try:
        reply = handler(ask, gone)
    except OSError as failure:
        reply = error(502, f"no upstream: {failure}")
    parts = iter(reply.parts)
    try:
        headers = {"date": formatdate(usegmt=True), **reply.headers}
        if ask.method == "HEAD" or reply.status in (204, 304):
            headers.pop("content-length", None)
        head = h11.Response(status_code=reply.status, headers=list(headers.items()))
        first = next(parts, b"")  # a Cut at once means: not even a head
        sock.sendall(connection.send(head) or b"")
        if ask.method != "HEAD":
            for part in (first,) if first else ():
                sock.sendall(connection.send(h11.Data(part)) or b"")
            for part in parts:
                sock.sendall(connection.send(h11.Data(part)) or b"")
        sock.sendall(connection.send(h11.EndOfMessage()) or b"")
    finally:
        if (close := getattr(parts, "close", None)) is not None:
            close()
