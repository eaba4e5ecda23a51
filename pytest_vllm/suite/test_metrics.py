"""GET /metrics: counters move by exactly what was asked and answered."""

from __future__ import annotations

import collections
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.metrics import METRICS, RUNNING, WAITING, Metrics, is_of, look, look_until
from pytest_vllm.suite.ask_for import chat, completion
from pytest_vllm.suite.facts import root_of
from pytest_vllm.suite.long import begin, long_completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer, Request

pytestmark = [
    pytest.mark.optional,
    pytest.mark.alone,
    pytest.mark.requires("vllm", "metrics"),
    pytest.mark.endpoint("GET /metrics"),
    pytest.mark.source("vLLM docs: Production Metrics"),
]

#: What a dashboard of vLLM is made of, on every version since 0.10.
FAMILIES = {
    RUNNING: "gauge",
    WAITING: "gauge",
    "vllm:kv_cache_usage_perc": "gauge",
    "vllm:num_preemptions": "counter",
    "vllm:prefix_cache_queries": "counter",
    "vllm:prefix_cache_hits": "counter",
    "vllm:prompt_tokens": "counter",
    "vllm:generation_tokens": "counter",
    "vllm:request_success": "counter",
    "vllm:request_prompt_tokens": "histogram",
    "vllm:request_generation_tokens": "histogram",
    "vllm:time_to_first_token_seconds": "histogram",
    "vllm:e2e_request_latency_seconds": "histogram",
    "vllm:request_queue_time_seconds": "histogram",
    "vllm:request_inference_time_seconds": "histogram",
    "vllm:request_prefill_time_seconds": "histogram",
    "vllm:request_decode_time_seconds": "histogram",
    "vllm:iteration_tokens_total": "histogram",
    "vllm:cache_config_info": "gauge",
}

#: Histograms with one observation for each sequence that was generated.
PER_SEQUENCE = (
    "vllm:request_prompt_tokens",
    "vllm:request_generation_tokens",
    "vllm:time_to_first_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:request_queue_time_seconds",
    "vllm:request_inference_time_seconds",
    "vllm:request_prefill_time_seconds",
    "vllm:request_decode_time_seconds",
)

#: Times of a request; none is longer than its client waited.
TIMES = tuple(name for name in PER_SEQUENCE if name.endswith("_seconds"))

#: Each asks once, and says what: name -> how.
ASKED: dict[str, Callable[[Api], Answer]] = {
    "whole": lambda api: api.ask(completion(api.model)),
    "streamed": lambda api: api.whole(_with_usage(completion(api.model))),
    "stop": lambda api: api.ask(completion(api.model, ignore_eos=True, max_tokens=3)),
    "two-choices": lambda api: api.ask(completion(api.model, n=2, temperature=1)),
    "batch": lambda api: api.ask(completion(api.model).but(prompt=["One two", "Three", "Four"])),
}
CHATTED: dict[str, Callable[[Api], Answer]] = {
    "whole": lambda api: api.ask(chat(api.model)),
    "streamed": lambda api: api.whole(_with_usage(chat(api.model))),
}


@pytest.mark.parametrize(("family", "kind"), FAMILIES.items(), ids=FAMILIES)
def test_a_family_is_there_with_its_type(api: Api, family: str, kind: str) -> None:
    seen = look(api.client)
    # A gauge that is an "info" keeps its name; the parser takes "_total" off a counter's.
    if seen.types.get(family) != kind:
        raise CheckFailed(
            f"/metrics must have the {kind} {family}", expected=kind, seen=seen.types.get(family)
        ).reproduced_by(seen.answer.curl)


def test_the_content_type_is_prometheus_text(api: Api) -> None:
    answer = api.send(METRICS)
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if media_type not in ("text/plain", "application/openmetrics-text"):
        raise CheckFailed(
            "/metrics must have the content type text/plain", seen=media_type
        ).reproduced_by(answer.curl)


def test_the_models_name_is_on_every_request_counter(api: Api) -> None:
    api.ask(completion(api.model))
    seen = look(api.client)
    for name in ("vllm:prompt_tokens_total", "vllm:generation_tokens_total", RUNNING):
        found = {dict(labels).get("model_name") for sample, labels in seen.values if sample == name}
        if not any(is_of(label, api.model, root_of(api)) for label in found):
            raise CheckFailed(
                f"{name} must have a sample of the served model",
                expected=api.model,
                seen=sorted(map(str, found)),
            ).reproduced_by(seen.answer.curl)


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_counters_move_by_the_usage_of_completions(api: Api, ask: Callable[[Api], Answer]) -> None:
    _must_move(api, ask)


@pytest.mark.chat_model
@pytest.mark.parametrize("ask", CHATTED.values(), ids=CHATTED)
def test_counters_move_by_the_usage_of_chats(api: Api, ask: Callable[[Api], Answer]) -> None:
    _must_move(api, ask)


def test_a_refused_request_is_counted_as_refused_and_moves_no_tokens(api: Api) -> None:
    _must_move(api, lambda api: api.send(completion(api.model, temperature=-1)))


def test_no_counter_ever_falls(api: Api) -> None:
    before = look(api.client)
    api.ask(completion(api.model))
    after = look(api.client)
    for key, value in before.counters().items():
        now = after.values.get(key)
        if now is None or now < value:
            raise CheckFailed(
                f"{key[0]} must not fall while the server runs", expected=value, seen=now
            ).reproduced_by(after.answer.curl)


def test_histograms_add_up(api: Api) -> None:
    api.ask(completion(api.model))
    seen = look(api.client)
    for (name, labels), counts in seen.buckets().items():
        total = seen.values.get((f"{name}_count", labels))
        if counts != sorted(counts) or counts[-1] != total:
            raise CheckFailed(
                f"The buckets of {name} must rise to its count", expected=total, seen=counts
            ).reproduced_by(seen.answer.curl)


def test_shares_are_between_0_and_1(api: Api) -> None:
    seen = look(api.client)
    for (name, _), value in seen.values.items():
        if name.startswith("vllm:") and name.endswith("_perc") and not 0 <= value <= 1:
            raise CheckFailed(f"{name} must be between 0 and 1", seen=value).reproduced_by(
                seen.answer.curl
            )


@pytest.mark.requires("generation")
def test_latencies_are_in_seconds(api: Api) -> None:
    before = look_until(api.client, lambda seen: not _is_working(seen))
    began = time.monotonic()
    api.ask(completion(api.model))
    waited = time.monotonic() - began
    name = "vllm:e2e_request_latency_seconds_count"
    after = look_until(api.client, lambda seen: seen.since(before, name) >= 1)
    if after.since(before, name) != 1:
        _unless_somebody_else(api)
    for family in TIMES:
        if (took := after.since(before, f"{family}_sum")) > waited + 0.05:
            raise CheckFailed(
                f"{family} must be no longer than its request took",
                expected=Text(f"at most {waited:.3f}"),
                seen=took,
            ).reproduced_by(after.answer.curl)


def test_a_request_that_runs_is_shown_as_running(api: Api) -> None:
    found = list[bool | None]()
    while not any(found) and len(found) < 8:
        found.append(_is_seen_running(api))
    if not any(found) and found.count(False) >= 3:
        raise CheckFailed(f"{RUNNING} must count a request that runs", expected=1, seen=0)
    idle = look_until(api.client, lambda seen: not _is_working(seen))
    if _is_working(idle):
        raise CheckFailed(
            f"{RUNNING} and {WAITING} must be 0 within 5 s after the last answer",
            seen=idle.in_flight,
        ).reproduced_by(idle.answer.curl)


def _is_seen_running(api: Api) -> bool | None:
    """Whether a stream is counted while it comes; None where it was over before anybody looked.

    A busy server answers /metrics late, so only a look counts after which the stream went on.
    """
    with begin(api.client, long_completion(api, stream=True)) as parts:
        next(parts, None)
        seen = look(api.client)
        looked = time.monotonic()
        collections.deque(parts, maxlen=0)
        went_on_s = time.monotonic() - looked
    return _is_working(seen) if went_on_s > 0.1 else None


def _with_usage(request: Request) -> Request:
    return request.but(stream=True, stream_options={"include_usage": True})


def _is_working(seen: Metrics) -> bool:
    return seen.in_flight > 0


def _must_move(api: Api, ask: Callable[[Api], Answer]) -> None:
    """Ask; every counter must move by what the answer says.

    One that moved too little is wrong. One that moved too far may have counted somebody else's
    requests: then it is tried again, and if it stays so, looked whether the server is idle.
    """
    for last in (False, False, True):
        failure, too_far = _measure(api, ask)
        if failure is None:
            return
        if last or not too_far:
            break
    assert failure is not None
    if too_far:
        _unless_somebody_else(api)
    raise failure


def _measure(api: Api, ask: Callable[[Api], Answer]) -> tuple[CheckFailed | None, bool]:
    before = look_until(api.client, lambda seen: not _is_working(seen))
    answer = ask(api)
    expected = _expected(answer)

    def there(seen: Metrics) -> bool:
        return all(
            seen.since(before, name, **dict(labels)) >= moves
            for (name, labels), moves in expected.items()
        )

    after = look_until(api.client, there)
    for (name, labels), moves in expected.items():
        moved = after.since(before, name, **dict(labels))
        if moved != moves:
            said = name + "".join(f'{{{key}="{value}"}}' for key, value in labels)
            failure = CheckFailed(
                f"{said} must move by what was answered", expected=moves, seen=moved
            )
            return failure.reproduced_by(answer.curl, after.answer.curl), moved > moves
    return None, False


_Key = tuple[str, tuple[tuple[str, str], ...]]


def _expected(answer: Answer) -> Mapping[_Key, int]:
    """What an answer moves: sample name and labels -> by how much."""
    group = f"{answer.status // 100}xx"
    moves: dict[_Key, int] = {
        ("http_requests_total", (("handler", answer.request.path), ("status", group))): 1
    }
    good = answer.status == 200
    usage = answer.json["usage"] if good else {"prompt_tokens": 0, "completion_tokens": 0}
    choices = answer.json["choices"] if good else []
    # Each choice is a sequence of its own, which reads the whole prompt.
    prompt = usage["prompt_tokens"] * answer.request.get("n", 1)
    moves["vllm:prompt_tokens_total", ()] = prompt
    moves["vllm:request_prompt_tokens_sum", ()] = prompt
    moves["vllm:prefix_cache_queries_total", ()] = prompt
    moves["vllm:generation_tokens_total", ()] = usage["completion_tokens"]
    moves["vllm:request_generation_tokens_sum", ()] = usage["completion_tokens"]
    moves["vllm:request_success_total", ()] = len(choices)
    for reason, count in Counter(choice["finish_reason"] for choice in choices).items():
        moves["vllm:request_success_total", (("finished_reason", reason),)] = count
    moves |= {(f"{name}_count", ()): len(choices) for name in PER_SEQUENCE}
    return moves


def _unless_somebody_else(api: Api) -> None:
    """End the test without a verdict if the counters move while we ask nothing."""
    name = "vllm:generation_tokens_total"
    before = look(api.client)
    seen = look_until(api.client, lambda seen: seen.since(before, name) > 0, limit_s=3)
    if (moved := seen.since(before, name)) > 0:
        api.unsupported(f"somebody else uses the server: {name} moved by {moved:g} while idle")
