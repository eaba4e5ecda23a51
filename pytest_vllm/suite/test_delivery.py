"""Streams arrive while they are generated: nobody on the way may collect them.

Times are compared within one answer only, with wide margins. A healthy vLLM on two cores may
deliver a whole answer in one burst, and the next ones, too, when its own processes starve each
other. So every stream of the run counts (`Once.note_delivery`), and more are tried here: who
collects answers collects all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import chat
from pytest_vllm.suite.long import context_length, long_completion, read_times

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Stream

pytestmark = [
    pytest.mark.core,
    pytest.mark.alone,
    pytest.mark.endpoint("POST /v1/completions (stream)"),
    pytest.mark.source("OpenAI reference: stream, partial progress as it becomes available"),
]

#: Tokens of the answer, one length after another until the rule is seen to hold.
LENGTHS = (200, 200, 400, 400, 800, 800, 1600, 1600, 1600, 1600, 1600, 1600)

#: Share of the whole time in which the first part must be there. Who buffers is near 1.
FIRST = 0.9


def test_the_first_part_of_a_stream_comes_well_before_the_last(api: Api) -> None:
    def holds(tokens: int) -> bool:
        if api.once.earliest("/v1/completions") < FIRST:
            return True
        _, times = read_times(api.client, long_completion(api, tokens, stream=True))
        return bool(times) and times[0] < FIRST * times[-1]

    _must_hold(holds, "The first part of a stream must come well before the last")


def test_the_head_of_a_stream_comes_well_before_its_end(api: Api) -> None:
    def holds(tokens: int) -> bool:
        # The head comes before the first part.
        if api.once.earliest("/v1/completions") < FIRST:
            return True
        head, times = read_times(api.client, long_completion(api, tokens, stream=True))
        return bool(times) and head < FIRST * times[-1]

    _must_hold(holds, "The head of a stream must come at once, not with its end")


def test_a_stream_comes_in_more_than_a_few_parts(api: Api) -> None:
    def holds(tokens: int) -> bool:
        _, times = read_times(api.client, long_completion(api, tokens, stream=True))
        return len(times) >= 5

    _must_hold(holds, "A long stream must come in many parts, not in a few")


def test_two_streams_at_the_same_time_interleave(api: Api) -> None:
    bursts = 0

    def holds(tokens: int) -> bool:
        nonlocal bursts

        def one() -> tuple[float, float, bool]:
            began = time.monotonic()
            _, times = read_times(api.client, long_completion(api, tokens, stream=True))
            return began + times[0], began + times[-1], times[0] > FIRST * times[-1]

        (first_a, last_a, burst_a), (first_b, last_b, burst_b) = api.together(one, one)
        bursts += burst_a or burst_b
        # Two bursts one after the other say nothing; whoever sends nothing else is caught above.
        return (first_a < last_b and first_b < last_a) or bursts == len(LENGTHS)

    _must_hold(holds, "Two streams at the same time must run side by side, not one by one")


def test_the_choices_of_a_stream_interleave(api: Api) -> None:
    def holds(tokens: int) -> bool:
        asked = long_completion(api, tokens, n=2, temperature=1).but(seed=tokens)
        stream = api.stream(asked)
        return _interleaves(stream)

    _must_hold(holds, "The choices of a stream must come side by side")


@pytest.mark.optional
@pytest.mark.chat_model
@pytest.mark.endpoint("POST /v1/chat/completions (stream)")
def test_a_chat_comes_while_it_is_generated(api: Api) -> None:
    path, room = "/v1/chat/completions", context_length(api) - 64

    def holds(tokens: int) -> bool:
        if api.once.earliest(path) >= FIRST:
            api.stream(chat(api.model, max_tokens=min(tokens, room)))
        return api.once.earliest(path) < FIRST

    _must_hold(holds, "The first part of a chat's stream must come well before the last")


def _interleaves(stream: Stream) -> bool:
    order = [choice["index"] for choice in stream.choices]
    last = {index: place for place, index in enumerate(order)}
    return all(order.index(a) < last[b] for a in last for b in last if a != b)


def _must_hold(holds: Callable[[int], bool], rule: str) -> None:
    for tokens in LENGTHS:
        if holds(tokens):
            return
    raise CheckFailed(f"{rule} (tried {len(LENGTHS)} times, up to {LENGTHS[-1]} tokens)")
