"""Daemon threads with a result: whoever hangs in one holds up neither Ctrl-C nor the exit.

`concurrent.futures` joins its threads when the interpreter ends, so a server that never answers
would keep an interrupted run alive until the time-out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")

__all__ = ["start"]


def start(call: Callable[[], T], name: str = "vllm-request") -> Future[T]:
    """Run a call on a daemon thread of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
