"""Tests ahead of their turn: while pytest reports one test, the next ones run on threads.

pytest runs tests one by one. A test that needs nothing but an `Api` does not care which thread
it runs on, so the coming ones of the same server are started before their turn, in a bounded
window; when a test's turn comes, its result is there, or about to be.

Only what will surely run is sent: the window follows the order of the session after all
selection, ends at the first test that must run as pytest runs it (other fixtures, `alone`,
another server), and is closed with `-x` and its like, under xdist and in a debugger.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

import pytest

from pytest_vllm.errors import ChatNotSupported
from pytest_vllm.servers.logs import end_of

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.servers.server import Server
    from pytest_vllm.spec import ServerSpec

#: The fixtures that a test may use and still run on any thread.
OURS = frozenset({"api", "vllm_api", "vllm_client", "vllm_server", "vllm_spec"})

#: A test that waits for its turn holds no request: the window looks this many times further.
_LOOKAHEAD = 4

#: Options of pytest after which nobody knows whether the next test runs, or which show the test
#: to a person while it runs.
_ONE_BY_ONE = ("maxfail", "stepwise", "setuponly", "setupplan", "usepdb", "trace")


@dataclass(eq=False)
class Flight:
    """One test on its way.

    Attributes:
        api: What the test gets; its notes are the test's.
        log_start: Where the server's log ended when the test began.
        elapsed_s: The test's own time, once it is done.
        error: What it raised.
    """

    item: pytest.Function
    api: Api
    call: Callable[[], object]
    log_start: int = 0
    elapsed_s: float = 0.0
    error: BaseException | None = None
    began: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Run the test, on whatever thread this is."""
        self.began, began = True, time.monotonic()
        self.log_start = end_of(self.api.server.log_path)
        try:
            self.call()
        except BaseException as error:
            self.error = error
            if isinstance(error, ChatNotSupported):
                _keep_first_frames(error)
        finally:
            self.elapsed_s = time.monotonic() - began
            self.done.set()

    def take(self) -> None:
        """Wait for the end of the test. Raises what it raised."""
        __tracebackhide__ = True
        self.done.wait()
        if self.error is not None:
            raise self.error

    @property
    def is_suspect(self) -> bool:
        """Whether it may have killed a server that is found dead now."""
        return self.began and (self.error is not None or not self.done.is_set())


def _keep_first_frames(error: BaseException) -> None:
    """Forget where below the test it arose: showing it costs pytest 0.1 s for each refusal."""
    trace = error.__traceback__
    if trace is not None and trace.tb_next is not None:
        trace.tb_next.tb_next = None


class Ahead:
    """The window of one process: what was started and waits for its turn."""

    def __init__(self, config: pytest.Config, concurrency: int) -> None:
        self.concurrency = 1 if _one_by_one(config) else concurrency
        self._lock = threading.Lock()
        self._queue: deque[Flight] = deque()
        self._flights: dict[pytest.Item, Flight] = {}
        self._threads = 0
        self._items: list[pytest.Item] = []
        self._numbers: dict[pytest.Item, int] = {}
        self._sent_up_to = 0

    def look(self, item: pytest.Item, server: Server, make_api: Callable[[], Api]) -> None:
        """At a test's turn, its server being there: start it and what may follow it."""
        if self.concurrency == 1 or not may_fly(item):
            return
        if not self._numbers:
            self._items = item.session.items
            self._numbers = {each: number for number, each in enumerate(self._items)}
        here = self._numbers.get(item)
        if here is None:
            return
        start = max(here, self._sent_up_to)
        for number in range(start, min(here + _LOOKAHEAD * self.concurrency, len(self._items))):
            coming = self._items[number]
            if spec_of(coming) != spec_of(item) or not (may_fly(coming) or is_skipped(coming)):
                break
            self._sent_up_to = number + 1
            if may_fly(coming) and able(coming, server):
                self._send(coming, make_api())

    def flight(self, item: pytest.Item) -> Flight | None:
        """The flight of a test that was started, None for any other."""
        return self._flights.get(item)

    def land(self, item: pytest.Item) -> None:
        """After a test: a second run of it, for example by a plugin that reruns, is its own."""
        self._flights.pop(item, None)

    def suspects(self, item: pytest.Item) -> list[str]:
        """The tests that may have killed the server, `item` being the one that is reported."""
        others = [f.item for f in list(self._flights.values()) if f.is_suspect]
        mine = self._flights.get(item)
        first = [] if mine is not None and not mine.is_suspect and others else [item]
        return [each.nodeid for each in dict.fromkeys([*first, *others])]

    def discard(self) -> None:
        """Start nothing more of what waits: the server is gone, or the run ends."""
        with self._lock:
            self._queue.clear()

    def _send(self, item: pytest.Function, api: Api) -> None:
        flight = self._flights[item] = Flight(item, api, _call(item, api))
        with self._lock:
            self._queue.append(flight)
            if self._threads == self.concurrency:
                return
            self._threads += 1
        threading.Thread(target=self._work, name="vllm-ahead", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                flight = self._queue.popleft()
            flight.run()


def spec_of(item: pytest.Item) -> ServerSpec | None:
    """The spec that a test runs on; None for a test that is none of our business."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("vllm_spec") if callspec else None


def may_fly(item: pytest.Item) -> TypeGuard[pytest.Function]:
    """Whether a test needs nothing but an Api and values, so that any thread may run it."""
    if type(item) is not pytest.Function or item.cls is not None or is_skipped(item):
        return False
    info = item._fixtureinfo
    if not {"api", "vllm_api"} & set(info.argnames) or item.get_closest_marker("alone"):
        return False
    if item.get_closest_marker("skipif") or not _is_plain(item.function):
        return False
    return all(_is_harmless(item, name) for name in info.names_closure if name != "request")


def is_skipped(item: pytest.Item) -> bool:
    """Whether its marks say that the test does not run at all."""
    xfails = item.iter_markers("xfail")
    return item.get_closest_marker("skip") is not None or any(
        mark.kwargs.get("run", True) is not True for mark in xfails
    )


def able(item: pytest.Item, server: Server) -> bool:
    """Whether the server has everything that a test requires."""
    names = [name for mark in item.iter_markers("requires") for name in mark.args]
    return all(server.capabilities.has(name) for name in names)


def _one_by_one(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput") or any(
        config.getoption(name, None) for name in _ONE_BY_ONE
    )


def _is_plain(function: Callable[..., object]) -> bool:
    """Neither a coroutine, which needs a loop, nor hypothesis's, which keeps state."""
    return not inspect.iscoroutinefunction(function) and not hasattr(function, "hypothesis")


def _is_harmless(item: pytest.Function, name: str) -> bool:
    """Whether a fixture of the closure is ours, a value of `parametrize`, or there already.

    What lives as long as the session and is set up, the test not taking it, is as it will be at
    the test's turn; pytest-asyncio has such a fixture for every test there is.
    """
    info = item._fixtureinfo
    definitions = info.name2fixturedefs.get(name, ())
    if definitions and name not in info.argnames and all(map(_stands, definitions)):
        return True
    modules = {definition.func.__module__ for definition in definitions}
    if name in OURS:
        return modules <= {"pytest_vllm.plugin", "pytest_vllm.suite.conftest"}
    return name in item.callspec.params and modules <= {"_pytest.python"}


def _stands(definition: Any) -> bool:
    return definition.scope == "session" and definition.cached_result is not None


def _call(item: pytest.Function, api: Api) -> Callable[[], object]:
    values: dict[str, Any] = {
        **item.callspec.params,
        "api": api,
        "vllm_api": api,
        "vllm_client": api.client,
        "vllm_server": api.server,
    }
    return partial(item.obj, **{name: values[name] for name in item._fixtureinfo.argnames})
