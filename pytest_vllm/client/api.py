"""Api: what a test of the suite talks to. Every answer is read strictly on the way.

    def test_a_stop_string_ends_the_text(api: Api) -> None:
        answer = api.ask(completion(api.model, stop=" two"))
        …

A test that takes nothing but `api` (and parameters) may run on any thread, before its turn in
the report: it keeps what it learns to itself, or in `api.once`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from pytest_vllm.client import ask as asking
from pytest_vllm.client import refused
from pytest_vllm.client.checks_together import alike
from pytest_vllm.client.dialect import Dialect
from pytest_vllm.client.readers import read, read_stream
from pytest_vllm.client.threads import start
from pytest_vllm.errors import Unsupported

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.client.exchange import Answer, Request, Stream
    from pytest_vllm.servers.server import Server

__all__ = ["Api", "Once"]

#: Streams of fewer parts say nothing about when they came.
FEW_PARTS = 5

T = TypeVar("T")


class Once:
    """Facts about a server that several tests need, each found out once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._facts: dict[object, Future[Any]] = {}
        self._earliest: dict[str, float] = {}

    def __call__(self, key: object, find: Callable[[], T]) -> T:
        """Return the fact of this key; the first who asks finds it out, the others wait."""
        with self._lock:
            first = key not in self._facts
            future: Future[T] = self._facts.setdefault(key, Future())
        if first:
            try:
                future.set_result(find())
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def note_delivery(self, path: str, times: Sequence[float]) -> None:
        """Remember how early the first part of a stream came, as a share of the whole time."""
        if len(times) >= FEW_PARTS and times[-1] > 0:
            share = times[0] / times[-1]
            with self._lock:
                self._earliest[path] = min(share, self._earliest.get(path, 1.0))

    def earliest(self, path: str) -> float:
        """The smallest such share of all streams of an endpoint; 1 where there was none."""
        return self._earliest.get(path, 1.0)


@dataclass
class Api:
    """One test's way to the server.

    Attributes:
        server: What is asked.
        client: The httpx client behind it all; shared, so it must not be changed.
        once: `api.once("end token", find)` calls `find` for the first test that asks only.
        notes: What the test wants shown.
    """

    server: Server
    client: httpx.Client
    once: Once = field(default_factory=Once, repr=False)
    notes: list[str] = field(default_factory=list, repr=False)

    @property
    def model(self) -> str:
        """The name to put into requests."""
        return self.server.model

    @property
    def dialect(self) -> Dialect:
        """Which server it is."""
        return Dialect.of(self.server.version, is_vllm=self.has("vllm"))

    def has(self, capability: str) -> bool:
        """Whether the server has a capability of `requires(…)`."""
        return self.server.capabilities.has(capability)

    def note(self, text: str) -> None:
        """Show a line with -v beside the test, and in reports."""
        self.notes.append(text)

    def unsupported(self, evidence: str) -> NoReturn:
        """End the test: the server cannot do this, and says so.

        Raises Unsupported.
        """
        raise Unsupported(evidence)

    def ask(self, request: Request) -> Answer:
        """Send a request that must be answered with 200, and read the answer strictly.

        Raises:
            ChatNotSupported: The model has no chat template.
            NoAnswer: As `ask.ask`.
            CheckFailed: Another status, or an answer that breaks a rule of its endpoint.
        """
        __tracebackhide__ = True
        return read(asking.ask(self.client, request), self.dialect)

    def stream(self, request: Request) -> Stream:
        """Ask for a stream, read it strictly and put it together (`Stream.whole`).

        Raises:
            ChatNotSupported, NoAnswer, CheckFailed: As `ask`.
        """
        __tracebackhide__ = True
        if not request.get("stream"):
            request = request.but(stream=True)
        stream = asking.ask_stream(self.client, request)
        self.once.note_delivery(request.path, stream.times)
        return read_stream(stream, self.dialect)

    def whole(self, request: Request) -> Answer:
        """As `stream`, but return what the stream adds up to."""
        __tracebackhide__ = True
        whole = self.stream(request).whole
        assert whole is not None, f"no reader for streams of {request.path}"
        return whole

    def send(self, request: Request) -> Answer:
        """Send a request and return the answer, whatever it is. Raises NoAnswer."""
        __tracebackhide__ = True
        return asking.send(self.client, request)

    def refused(self, request: Request, **how: Any) -> Answer:
        """Send a bad request: it must be refused (`refused.refuse`), and do no harm.

        Raises CheckFailed.
        """
        __tracebackhide__ = True
        answer = refused.refuse(self, request, **how)
        refused.still_well(self)
        return answer

    def both(self, request: Request, *, ignore: Sequence[str] = ()) -> Answer:
        """Ask unstreamed and streamed; both must say the same. Returns the unstreamed answer.

        For requests whose answer is determined; see `checks_together.alike`.

        Args:
            request: Without `stream`; usage is asked for where the endpoint has the option.
            ignore: Names of fields that may differ, besides ids and times.

        Raises:
            ChatNotSupported, NoAnswer, CheckFailed: As `ask`; or the two differ.
        """
        __tracebackhide__ = True
        streamed = request.but(stream=True)
        if request.path in ("/v1/completions", "/v1/chat/completions"):
            streamed = streamed.but(stream_options={"include_usage": True})
        answer, _ = alike(
            lambda: (self.ask(request), self.whole(streamed)),
            "The stream must add up to the unstreamed answer",
            ignore=["prompt_logprobs", *ignore],  # a stream does not say them
        )
        return answer

    def together(self, *calls: Callable[[], T]) -> list[T]:
        """Run calls at the same time, each on a thread; their results in order.

        Raises what the first of them, in order, raised.
        """
        __tracebackhide__ = True
        futures = [start(call) for call in calls]
        wait(futures)  # also where one failed: nothing of a test may outlive it
        return [future.result() for future in futures]
