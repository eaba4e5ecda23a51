"""Known-answer models: text, counts and logprobs must be what the model's formula says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.client.ask import ask, ask_stream
from pytest_vllm.client.checks import CHAT_ANSWER, COMPLETION_ANSWER, chat_text, completion_text
from pytest_vllm.client.checks_exact import has_logprobs, is_answer, is_streamed, largest_error
from pytest_vllm.client.checks_stream import COMPLETION_STREAM
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.samples import PROMPTS, QUESTIONS, long_prompt
from pytest_vllm.suite.ask_for import chat, completion, streamed
from pytest_vllm.suite.predicted import expected_answer, expected_chat_answer, tolerance

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.servers.server import Server

pytestmark = [
    pytest.mark.core,
    pytest.mark.requires("known-answer"),
    pytest.mark.endpoint("POST /v1/completions"),
]

Note = Callable[[str], None]

#: How many candidates are asked for at each position; vLLM's own limit is 20.
TOP = 5


def test_greedy_text_is_the_predicted_one(vllm_client: httpx.Client, vllm_server: Server) -> None:
    for prompt in PROMPTS:
        expected = expected_answer(vllm_server.model, prompt, max_tokens=16)
        answer = ask(vllm_client, completion(vllm_server.model, prompt))
        answer.check(*COMPLETION_ANSWER, is_answer(expected, completion_text))


@pytest.mark.endpoint("POST /v1/completions (stream)")
def test_streamed_text_is_the_predicted_one(vllm_client: httpx.Client, vllm_server: Server) -> None:
    for prompt in PROMPTS:  # "Say unicode": characters that are split over tokens
        expected = expected_answer(vllm_server.model, prompt, max_tokens=16)
        stream = ask_stream(vllm_client, streamed(completion(vllm_server.model, prompt)))
        stream.check(*COMPLETION_STREAM, is_streamed(expected))


def test_logprobs_are_the_predicted_ones(
    vllm_client: httpx.Client, vllm_server: Server, vllm_note: Note
) -> None:
    _compare_logprobs(vllm_client, vllm_server, vllm_note, "Today is Monday")


@pytest.mark.requires("known-answer/context")
def test_every_token_of_a_long_context_counts(
    vllm_client: httpx.Client, vllm_server: Server, vllm_note: Note
) -> None:
    _compare_logprobs(vllm_client, vllm_server, vllm_note, long_prompt(300))


def _compare_logprobs(client: httpx.Client, server: Server, note: Note, prompt: str) -> None:
    __tracebackhide__ = True
    expected, limit = expected_answer(server.model, prompt, max_tokens=20), tolerance(server)
    request = completion(server.model, prompt, max_tokens=20, logprobs=TOP)
    answer = ask(client, request).check(*COMPLETION_ANSWER, is_answer(expected, completion_text))
    answer.check(has_logprobs(expected, TOP, limit))
    worst = largest_error(answer, expected, TOP)
    note(f"largest logprob error {worst.error:.1g} (limit {limit:g})")


def test_a_prompt_of_token_ids_is_completed(vllm_client: httpx.Client, vllm_server: Server) -> None:
    ids = predictor(vllm_server.model).encode("Count from one")
    expected = expected_answer(vllm_server.model, ids, max_tokens=16)
    answer = ask(vllm_client, completion(vllm_server.model, ids))
    answer.check(*COMPLETION_ANSWER, is_answer(expected, completion_text))


def test_the_end_token_ends_the_answer(vllm_client: httpx.Client, vllm_server: Server) -> None:
    prompt = "The planets: Mercury"  # " Venus … Neptune." and the end token
    expected = expected_answer(vllm_server.model, prompt, max_tokens=64)
    assert expected.finish_reason == "stop"
    answer = ask(vllm_client, completion(vllm_server.model, prompt, max_tokens=64))
    answer.check(*COMPLETION_ANSWER, is_answer(expected, completion_text))


@pytest.mark.requires("known-answer/chat")
@pytest.mark.endpoint("POST /v1/chat/completions")
def test_chat_answers_are_the_predicted_ones(
    vllm_client: httpx.Client, vllm_server: Server
) -> None:
    for question in QUESTIONS:
        expected = expected_chat_answer(vllm_server.model, question, max_tokens=16)
        answer = ask(vllm_client, chat(vllm_server.model, question))
        answer.check(*CHAT_ANSWER, is_answer(expected, chat_text))
