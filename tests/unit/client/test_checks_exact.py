from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pytest_vllm.client.checks import chat_text, completion_text
from pytest_vllm.client.checks_exact import has_logprobs, is_answer, is_streamed, largest_error
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.samples import long_prompt
from pytest_vllm.spec import ServerSpec
from pytest_vllm.suite.ask_for import chat, completion, streamed
from pytest_vllm.suite.predicted import expected_answer, expected_chat_answer, tolerance
from tests.unit.client.exchanges import answer_to, stream_to

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Answer
    from pytest_vllm.servers.server import Server

NAME = "known-answer/base"
EXPECTED = expected_answer(NAME, "Today is Monday", 16)
REQUEST = completion(NAME, "Today is Monday", logprobs=5)


def test_a_right_answer_passes() -> None:
    answer = answer_to(REQUEST)
    answer.check(is_answer(EXPECTED, completion_text), has_logprobs(EXPECTED, 5, 1e-9))
    assert largest_error(answer, EXPECTED, 5).error < 1e-9


def test_a_right_chat_answer_passes() -> None:
    expected = expected_chat_answer("known-answer/chat", "Please say unicode", 16)
    assert expected.text == "中文😀."
    answer_to(chat("known-answer/chat", "Please say unicode")).check(is_answer(expected, chat_text))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("text_differs", "The text must be what the model's formula says: expected \" Tuesday"),
        ("finish_confused", 'The finish_reason must be .*: expected "length", got "stop"'),
        ("prompt_miscounted", "The usage.prompt_tokens must be .*: expected 10, got 11"),
        ("finish_too_early", "The usage.completion_tokens must be .*: expected 16, got 1"),
    ],
)
def test_each_difference_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        answer_to(REQUEST, fault).check(is_answer(EXPECTED, completion_text))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("logprob_off", "The logprob of ' Wednesday' at position 15 must be within 0.01 of"),
        ("candidate_off", "The logprob of '.*' at position 15 must be within 0.01 of"),
        ("candidate_lost", "top_logprobs must have 5 candidates: got {"),
    ],
)
def test_each_wrong_logprob_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        answer_to(REQUEST, fault).check(has_logprobs(EXPECTED, 5, 1e-2))


def test_one_lost_token_of_a_long_context_is_found() -> None:
    name, prompt = "known-answer/context", long_prompt(300)
    answer = answer_to(completion(name, prompt, logprobs=5, max_tokens=20))
    right = expected_answer(name, prompt, 20)
    answer.check(has_logprobs(right, 5, 1e-9))
    ids = [token for i, token in enumerate(predictor(name).encode(prompt)) if i != 100]
    wrong = replace(expected_answer(name, ids, 20), prompt_tokens=300)
    with pytest.raises(CheckFailed, match=r"must be within 0\.001 of the model's formula"):
        answer.check(has_logprobs(wrong, 5, 1e-3))


def _with_logprobs(**fields: object) -> Answer:
    answer = answer_to(REQUEST)
    answer.json["choices"][0]["logprobs"].update(fields)
    return answer


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tokens": None}, r"choices\[0\].logprobs.tokens must be a list: got null"),
        ({"tokens": [" Tuesday"]}, "The list of tokens must be"),
        ({"token_logprobs": [-0.5]}, "The length of token_logprobs must be .*: expected 16, got 1"),
        ({"token_logprobs": [None] * 16}, r"token_logprobs\[0\] must be a number: got null"),
        ({"top_logprobs": []}, "The length of top_logprobs must be .*: expected 16, got 0"),
        (
            {"top_logprobs": [{"Quatsch": -1.0}] * 16},
            r'A candidate must be a token of the model: got \["Quatsch"\]',
        ),
    ],
)
def test_logprobs_that_cannot_be_compared_are_found(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(CheckFailed, match=message):
        _with_logprobs(**fields).check(has_logprobs(EXPECTED, 5, 1e-2))


def test_logprobs_that_were_not_served_are_found() -> None:
    answer = answer_to(completion(NAME, "Today is Monday"))
    with pytest.raises(CheckFailed, match=r"choices\[0\].logprobs must be an object: got null"):
        answer.check(has_logprobs(EXPECTED, 5, 1e-2))


def test_a_tie_may_be_broken_either_way() -> None:
    position = EXPECTED.positions[0]
    ranked = sorted(position.candidates, key=lambda token: -position.candidates[token])
    tied = dict(position.candidates) | {ranked[5]: position.candidates[ranked[4]]}
    expected = replace(
        EXPECTED, positions=(replace(position, candidates=tied), *EXPECTED.positions[1:])
    )
    answer = answer_to(REQUEST)
    first = answer.json["choices"][0]["logprobs"]["top_logprobs"][0]
    first[ranked[5]] = first.pop(ranked[4])
    answer.check(has_logprobs(expected, 5, 1e-9))


def test_a_right_stream_passes_and_lost_text_is_found() -> None:
    request = streamed(REQUEST)
    stream_to(request).check(is_streamed(EXPECTED))
    with pytest.raises(CheckFailed, match="The streamed text must be what the model's formula"):
        stream_to(request, "stream_differs").check(is_streamed(EXPECTED))
    with pytest.raises(CheckFailed, match="The finish_reason must be"):
        stream_to(request, "no_finish").check(is_streamed(EXPECTED))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("float32", 1e-3), ("bfloat16", 1e-2), (None, 1e-2), ("auto", 1e-2), ("half", 1e-2)],
)
def test_the_tolerance_follows_the_dtype_that_was_asked_for(
    dtype: str | None, expected: float
) -> None:
    name = "known-answer/context"
    server = SimpleNamespace(model=name, spec=ServerSpec(name, dtype=dtype))
    assert tolerance(cast("Server", server)) == expected


def test_a_model_without_memory_must_be_exact_in_any_dtype() -> None:
    server = SimpleNamespace(model=NAME, spec=ServerSpec(NAME, dtype="bfloat16"))
    assert tolerance(cast("Server", server)) == 1e-3


def test_no_test_may_insist_on_an_uncertain_text() -> None:
    with pytest.raises(AssertionError, match="without a certain answer"):
        expected_answer("known-answer/context", [0, 405, 440, 316], 16)
