"""What /metrics says, as numbers: Prometheus text -> Metrics, and what moved between two looks.

Counters lag behind the answer by one step of the engine, so whoever compares them waits for the
value with `look_until`, up to a limit, and judges the last look.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vllm.client.ask import ask
from pytest_vllm.client.exchange import Answer, Request
from pytest_vllm.client.failure import CheckFailed

if TYPE_CHECKING:
    import httpx

__all__ = ["RUNNING", "WAITING", "Metrics", "look", "look_until", "read_metrics"]

METRICS = Request("GET", "/metrics")
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"

#: Seconds between two looks; one costs the server about 5 ms.
_PAUSE_S = 0.05

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Metrics:
    """One look at /metrics.

    Attributes:
        values: Sample name and labels -> value.
        types: Family name -> counter, gauge, histogram …
        answer: Where it was read from.
    """

    values: Mapping[tuple[str, Labels], float]
    types: Mapping[str, str]
    answer: Answer

    def has(self, name: str) -> bool:
        """Whether a sample of this name is there, with any labels."""
        return any(sample == name for sample, _ in self.values)

    def sum(self, name: str, **labels: str) -> float:
        """The sum over all samples of this name that have these labels; 0 without any."""
        wanted = labels.items()
        return sum(
            value
            for (sample, have), value in self.values.items()
            if sample == name and wanted <= have
        )

    def since(self, before: Metrics, name: str, **labels: str) -> float:
        """How far a counter moved."""
        return self.sum(name, **labels) - before.sum(name, **labels)

    @property
    def in_flight(self) -> float:
        """Requests that the engine works on, or that wait for it."""
        return self.sum(RUNNING) + self.sum(WAITING)

    def buckets(self) -> dict[tuple[str, Labels], list[float]]:
        """Histogram and labels -> its cumulative counts, in the order of their bounds."""
        found: dict[tuple[str, Labels], list[tuple[float, float]]] = defaultdict(list)
        for (sample, labels), value in self.values.items():
            bound = dict(labels).get("le")
            if sample.endswith("_bucket") and bound is not None:
                rest = labels - {("le", bound)}
                found[sample.removesuffix("_bucket"), rest].append((float(bound), value))
        return {key: [count for _, count in sorted(pairs)] for key, pairs in found.items()}

    def counters(self) -> dict[tuple[str, Labels], float]:
        """Everything that may never fall: counters, and the counts and sums of histograms."""
        rising = tuple(
            name for name, kind in self.types.items() if kind in ("counter", "histogram")
        )
        ends = ("_total", "_count", "_bucket", "_sum")
        names = {f"{name}{end}" for name in rising for end in ends}
        return {key: value for key, value in self.values.items() if key[0] in names}


def read_metrics(answer: Answer) -> Metrics:
    """Read the Prometheus text format. Raises CheckFailed."""
    from prometheus_client.parser import text_string_to_metric_families

    values: dict[tuple[str, Labels], float] = {}
    types: dict[str, str] = {}
    try:
        for family in text_string_to_metric_families(answer.text):
            types[family.name] = family.type
            for sample in family.samples:
                values[sample.name, frozenset(sample.labels.items())] = sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise CheckFailed(f"/metrics must be in Prometheus' text format ({error})").reproduced_by(
            answer.curl
        ) from None
    return Metrics(values, types, answer)


def is_of(name: str | None, model: str, root: str | None) -> bool:
    """Whether the label `model_name` is of a model: its name, or where its files are.

    vLLM that serves a model of the hub offline, without a served name, says the snapshot's folder.
    """
    snapshot = f"models--{model.replace('/', '--')}"
    return name is not None and (name in (model, root) or snapshot in name)


def look(client: httpx.Client) -> Metrics:
    """Ask for /metrics. Raises NoAnswer, CheckFailed."""
    return read_metrics(ask(client, METRICS))


def look_until(
    client: httpx.Client, holds: Callable[[Metrics], bool], *, limit_s: float = 5.0
) -> Metrics:
    """Look until something holds, at most `limit_s`; the last look, whether it holds or not."""
    deadline = time.monotonic() + limit_s
    while True:
        seen = look(client)
        if holds(seen) or time.monotonic() > deadline:
            return seen
        time.sleep(_PAUSE_S)
