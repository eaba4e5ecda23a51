"""httpx clients for a server: base URL, key and time-outs set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

#: Seconds: to connect, and between two bytes of an answer. A loaded GPU may think for a while.
CONNECT_S, READ_S = 10.0, 300.0


def api_key(environ: Mapping[str, str] = os.environ) -> str | None:
    """The server's key: only ever from the environment, where no process list shows it."""
    return environ.get("VLLM_API_KEY") or None


def make_client(base_url: str) -> httpx.Client:
    """A client for tests, with no retries: a test must see what the server does."""
    import httpx

    return httpx.Client(**_options(base_url))


def make_async_client(base_url: str) -> httpx.AsyncClient:
    """The same, not yet opened, so that it lives in the event loop of the test that uses it."""
    import httpx

    return httpx.AsyncClient(**_options(base_url))


def _options(base_url: str) -> dict[str, Any]:
    import httpx

    key = api_key()
    return {
        "base_url": base_url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx.Timeout(READ_S, connect=CONNECT_S),
        # vLLM closes idle connections after 5 s, which is httpx's default too: the two would
        # race. Ours go first.
        "limits": httpx.Limits(keepalive_expiry=2.0),
        # Reading the certificate store costs 20 ms, also for plain http, where nobody needs it.
        "verify": base_url.startswith("https"),
        # A proxy of the environment is not meant for a server on this machine.
        "trust_env": not base_url.startswith(("http://127.", "http://localhost")),
    }
