"""Is a server still there? Its process lives, its port answers, its engine is not dead.

Asked after every test, so it is done with `http.client`, which costs a fraction of a
millisecond where a client with pools and certificates costs many.
"""

from __future__ import annotations

import contextlib
import socket
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Instance

#: Seconds to wait for the end of a server that is no longer healthy: vLLM looks every 5 s
#: whether its engine lives (VLLM_WATCHDOG_TIME_S).
_SETTLE_S = 8.0


def accepts(url: str) -> bool:
    """Whether somebody accepts connections at the address."""
    address = urlsplit(url)
    port = address.port or (443 if address.scheme == "https" else 80)
    with contextlib.suppress(OSError), socket.create_connection((address.hostname, port), 5):
        return True
    return False


def health(url: str) -> int:
    """The status of GET /health, 0 if nobody answered.

    Raises:
        TimeoutError: Somebody is there, and took more than 5 s.
    """
    address = urlsplit(url)
    connection_type = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = connection_type(address.netloc, timeout=5)
    try:
        connection.request("GET", f"{address.path}/health")
        return connection.getresponse().status
    except TimeoutError:
        raise
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def death_of(instance: Instance) -> str | None:
    """How a server that was ready ended; None if it lives.

    vLLM answers 503 once its engine is dead, and exits moments later; a killed process
    closes its port before it can be seen dead. So a sick server gets time to end, and one
    that stays sick is dead too, whatever its process does.
    """
    deadline = time.monotonic() + _SETTLE_S
    while (state := instance.state()).running:
        try:
            status = health(instance.base_url or "")
        except TimeoutError:
            return None  # busy is not dead
        if status not in (0, 503):
            return None
        if time.monotonic() > deadline:
            return "its engine is dead: /health says 503" if status else "it answers no more"
        time.sleep(0.02)
    return str(state)
