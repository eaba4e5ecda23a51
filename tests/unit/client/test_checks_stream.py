from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.checks_stream import (
    CHAT_STREAM,
    COMPLETION_STREAM,
    ends_with_usage,
    equals_unstreamed,
    stream_text,
)
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import chat, completion, streamed
from tests.unit.client.exchanges import CURL, stream_to

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Request

COMPLETION = streamed(completion("m", "Today is Monday"))
CHAT = streamed(chat("m", "What comes after Monday?"))
#: Fault -> what the failure says, on both endpoints.
EITHER = {
    "id_changes": "All chunks must have the same id",
    "model_changes": r'All chunks must have the same model: got \["m", "x"\]',
    "other_model_streamed": 'must be the one that was asked for: expected "m", got "x"',
    "other_object_streamed": r'chunk\[0\].object must be ".*": got "x"',
    "index_one_streamed": r"All chunks must belong to choice 0: expected \[0\], got \[1\]",
    "no_chunks": "A stream must have chunks before",
    "no_finish": r"A choice must have exactly one finish_reason: got \[\]",
    "finish_left_out": r"chunk\[0\].choices\[0\].finish_reason must be .*, or null: got nothing",
    "two_finishes": r'exactly one finish_reason: got \["length", "length"\]',
    "text_after_finish": "No text must follow the finish_reason",
    "empty_text_streamed": "The generated text must not be empty",
}
USAGE = {
    "no_stream_usage": "With include_usage, only the last chunk must have usage",
    "stream_usage_early": "only the last chunk must have usage, and it must have no choices",
    "stream_usage_wrong": r"usage.total_tokens must be .*: expected \d+, got 1",
    "stream_usage_incomplete": "usage.total_tokens must be an integer, 0 or more: got nothing",
}


def test_healthy_streams_pass() -> None:
    stream = stream_to(COMPLETION)
    assert stream.check(*COMPLETION_STREAM) is stream
    assert stream_text(stream).startswith(" Tuesday Wednesday")
    assert stream_text(stream_to(CHAT).check(*CHAT_STREAM)).startswith(" Tuesday Wednesday")


def test_characters_that_are_split_over_tokens_come_whole() -> None:
    stream = stream_to(streamed(completion("m", "Say unicode"))).check(*COMPLETION_STREAM)
    assert stream_text(stream) == "中文😀."


@pytest.mark.parametrize(("fault", "message"), EITHER.items())
def test_each_broken_rule_of_a_completion_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message) as caught:
        stream_to(COMPLETION, fault).check(*COMPLETION_STREAM)
    assert str(caught.value).endswith(CURL)


@pytest.mark.parametrize(
    ("fault", "message"),
    (EITHER | {"no_role": 'The first delta must have the role "assistant"'}).items(),
)
def test_each_broken_rule_of_a_chat_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        stream_to(CHAT, fault).check(*CHAT_STREAM)


both_endpoints = pytest.mark.parametrize(
    "asked", [completion("m"), chat("m")], ids=["completion", "chat"]
)


@both_endpoints
def test_usage_at_the_end_passes(asked: Request) -> None:
    stream_to(streamed(asked, include_usage=True)).check(ends_with_usage)


@pytest.mark.parametrize(("fault", "message"), USAGE.items())
@both_endpoints
def test_each_broken_rule_of_usage_is_found(asked: Request, fault: str, message: str) -> None:
    request = streamed(asked, include_usage=True)
    with pytest.raises(CheckFailed, match=message):
        stream_to(request, fault).check(ends_with_usage)


def test_equal_texts_are_compared_once() -> None:
    stream = stream_to(COMPLETION)
    texts = [stream_text(stream), "never asked for"]
    stream.check(equals_unstreamed(lambda: texts.pop(0)))
    assert texts == ["never asked for"]


def test_a_near_tie_may_fall_the_other_way_once() -> None:
    stream = stream_to(COMPLETION)
    texts = ["another", stream_text(stream)]
    stream.check(equals_unstreamed(lambda: texts.pop(0)))


@both_endpoints
def test_lost_text_is_found(asked: Request) -> None:
    whole = stream_text(stream_to(streamed(asked)))
    stream = stream_to(streamed(asked), "stream_differs")
    with pytest.raises(CheckFailed, match="The streamed text must equal the unstreamed text"):
        stream.check(equals_unstreamed(lambda: whole))
