"""Each fault of a server turns exactly the tests red that state its rule, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fake_server import FakeServer
from tests.faults.catalogue import FAULTS

COMPLETION = {"test_completions: a_prompt_is_completed"}
CHAT = {"test_chat: a_question_is_answered"}
EQUAL = {
    "test_completions_stream: the_streamed_text_equals_the_unstreamed_text",
    "test_chat_stream: the_streamed_answer_equals_the_unstreamed_answer",
}
USAGE = {
    "test_completions_stream: a_stream_ends_with_its_usage_when_asked_to",
    "test_chat_stream: a_stream_ends_with_its_usage_when_asked_to",
}
COMPLETION_STREAM = {
    "test_completions_stream: a_completion_is_streamed",
    "test_completions_stream: the_streamed_text_equals_the_unstreamed_text",
    "test_completions_stream: a_stream_ends_with_its_usage_when_asked_to",
}
CHAT_STREAM = {
    "test_chat_stream: an_answer_is_streamed",
    "test_chat_stream: the_streamed_answer_equals_the_unstreamed_answer",
    "test_chat_stream: a_stream_ends_with_its_usage_when_asked_to",
}
ANSWERS = COMPLETION | CHAT
STREAMS = COMPLETION_STREAM | CHAT_STREAM
MODELS = {"test_models: the_list_names_the_served_model"}
HEALTH = {"test_server: the_server_says_that_it_is_healthy"}

#: Fault -> the tests that go red on a chat model of which nothing is known.
ANY_MODEL: dict[str, set[str]] = {
    "completions_500": COMPLETION | COMPLETION_STREAM,
    "chat_500": CHAT | CHAT_STREAM,
    "chat_400": CHAT | CHAT_STREAM,
    "models_500": MODELS,
    "health_500": HEALTH,
    "hangs_up": ANSWERS | STREAMS,
    "models_empty": MODELS,
    "models_other": MODELS,
    "models_no_list": MODELS,
    "not_json_type": ANSWERS,
    "broken_json": ANSWERS | EQUAL,
    "nan": ANSWERS | EQUAL,
    "no_id": ANSWERS,
    "empty_id": ANSWERS,
    "other_object": ANSWERS,
    "created_ms": ANSWERS,
    "created_float": ANSWERS,
    "other_model": ANSWERS,
    "no_choices": ANSWERS | EQUAL,
    "two_choices": ANSWERS,
    "index_one": ANSWERS,
    "other_finish": ANSWERS,
    "null_finish": ANSWERS,
    "no_text": COMPLETION | (EQUAL & COMPLETION_STREAM),
    "no_message": CHAT | (EQUAL & CHAT_STREAM),
    "other_role": CHAT,
    "empty_text": ANSWERS | EQUAL,
    "text_differs": EQUAL,
    "no_usage": ANSWERS,
    "usage_wrong": ANSWERS,
    "usage_negative": ANSWERS,
    "usage_no_prompt": ANSWERS,
    "usage_over_limit": ANSWERS,
    "finish_too_early": ANSWERS,
    "no_stream": STREAMS,
    "no_done": STREAMS,
    "done_twice": STREAMS,
    "data_after_done": STREAMS,
    "no_data_field": STREAMS,
    "no_blank_lines": STREAMS,
    "last_blank_line_lost": STREAMS,
    "broken_chunk": STREAMS,
    "chunk_is_list": STREAMS,
    "error_in_stream": STREAMS,
    "bad_utf8": STREAMS,
    "cut": STREAMS,
    "id_changes": STREAMS,
    "model_changes": STREAMS,
    "other_model_streamed": STREAMS,
    "other_object_streamed": STREAMS,
    "index_one_streamed": STREAMS,
    "no_chunks": STREAMS,
    "no_finish": STREAMS,
    "finish_left_out": STREAMS,
    "two_finishes": STREAMS,
    "text_after_finish": STREAMS,
    "no_role": CHAT_STREAM,
    "empty_text_streamed": STREAMS,
    "stream_differs": EQUAL,
    "no_stream_usage": USAGE,
    "stream_usage_early": USAGE,
    "stream_usage_wrong": USAGE,
    "stream_usage_incomplete": USAGE,
    # Only somebody who knows the right answer can tell.
    "prompt_miscounted": set(),
    "finish_confused": set(),
    "logprob_off": set(),
    "candidate_off": set(),
    "candidate_lost": set(),
    "context_lost": set(),
    "ids_misread": set(),
}

TEXT = "test_known_answer: greedy_text_is_the_predicted_one"
STREAMED = "test_known_answer: streamed_text_is_the_predicted_one"
LOGPROBS = "test_known_answer: logprobs_are_the_predicted_ones"
CONTEXT = "test_known_answer: every_token_of_a_long_context_counts"
IDS = "test_known_answer: a_prompt_of_token_ids_is_completed"
END = "test_known_answer: the_end_token_ends_the_answer"
ANSWER = "test_known_answer: chat_answers_are_the_predicted_ones"
COUNTED = {TEXT, LOGPROBS, IDS, END}

#: Model and fault -> the tests that go red besides those of any model.
KNOWN_ANSWER: dict[tuple[str, str], set[str]] = {
    ("known-answer/base", "text_differs"): COUNTED | EQUAL & COMPLETION_STREAM,
    ("known-answer/base", "stream_differs"): {STREAMED} | EQUAL & COMPLETION_STREAM,
    ("known-answer/base", "prompt_miscounted"): COUNTED,
    ("known-answer/base", "finish_confused"): COUNTED - {END},
    ("known-answer/base", "logprob_off"): {LOGPROBS},
    ("known-answer/base", "candidate_off"): {LOGPROBS},
    ("known-answer/base", "candidate_lost"): {LOGPROBS},
    ("known-answer/base", "ids_misread"): {IDS},
    ("known-answer/context", "context_lost"): {CONTEXT},
    ("known-answer/chat", "prompt_miscounted"): COUNTED | {ANSWER},
}

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run_suite(pytester: pytest.Pytester) -> Run:
    """Run the suite against a fake server; the verdicts by test, and the exit code."""

    def run(server: FakeServer, *options: str) -> dict[str, Any]:
        result = pytester.runpytest_inprocess(
            "--pyargs",
            "pytest_vllm.suite",
            f"--vllm-url={server.url}",
            f"--vllm-model={server.model}",
            "--vllm-results=results.json",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:asyncio",
            *options,
        )
        results = json.loads((pytester.path / "results.json").read_text())
        tests = {_short(test["id"]): test for test in results["tests"]}
        return {"exit": result.ret, "tests": tests, "output": result.stdout.str()}

    return run


def _short(test_id: str) -> str:
    """`…/test_chat.py::test_x[model]` -> `test_chat: x`."""
    file, _, name = test_id.rpartition("/suite/")[2].partition(".py::test_")
    return f"{file}: {name.partition('[')[0]}"


def _with(run: dict[str, Any], *verdicts: str) -> set[str]:
    return {name for name, test in run["tests"].items() if test["verdict"] in verdicts}


def _red(run: dict[str, Any]) -> set[str]:
    return _with(run, "failed", "optional_failed", "error")


@pytest.mark.parametrize(
    "model", ["facebook/opt-125m", "known-answer/base", "known-answer/context", "known-answer/chat"]
)
def test_a_healthy_server_is_green(model: str, run_suite: Run) -> None:
    with FakeServer(model) as server:
        run = run_suite(server, "-v")
    assert (run["exit"], _red(run)) == (0, set())
    chats = _with(run, "passed") & (CHAT | CHAT_STREAM)
    refusals = _with(run, "expected_failure")
    assert {len(chats), len(refusals)} == {0, 4}
    assert bool(chats) == (model == "known-answer/chat")
    assert ("largest logprob error" in run["output"]) == (model != "facebook/opt-125m")
    assert ("reply: " in run["output"]) == bool(chats)


@pytest.mark.parametrize(("fault", "red"), ANY_MODEL.items(), ids=ANY_MODEL)
def test_a_fault_turns_its_tests_red(fault: str, red: set[str], run_suite: Run) -> None:
    with FakeServer("acme/some-chat-model", chat=True, faults={fault}) as server:
        run = run_suite(server)
    assert _red(run) == red
    core = {name for name in red if run["tests"][name]["level"] == "core"}
    assert run["exit"] == (1 if core else 0)
    assert all("curl -sS" in run["tests"][name]["message"] for name in red)


@pytest.mark.parametrize(
    ("model", "fault", "red"),
    [(*key, red) for key, red in KNOWN_ANSWER.items()],
    ids=[":".join(key) for key in KNOWN_ANSWER],
)
def test_a_known_answer_shows_what_else_nobody_sees(
    model: str, fault: str, red: set[str], run_suite: Run
) -> None:
    with FakeServer(model, faults={fault}) as server:
        run = run_suite(server)
    assert (_red(run), run["exit"]) == (red, 1)


@pytest.mark.parametrize(
    ("fault", "red"),
    [
        ("version_500", "test_server: the_server_says_its_version"),
        ("version_empty", "test_server: the_server_says_its_version"),
        ("docs_500", "test_server: the_documentation_can_be_read"),
        ("docs_not_html", "test_server: the_documentation_can_be_read"),
    ],
)
def test_what_is_found_and_wrong_is_red(fault: str, red: str, run_suite: Run) -> None:
    with FakeServer(faults={fault}) as server:
        run = run_suite(server, "-k", "test_server")
    assert (_red(run), run["exit"]) == ({red}, 0)


@pytest.mark.parametrize("fault", ["chat_500", "hangs_up"])
def test_a_base_model_must_refuse_chat_properly(fault: str, run_suite: Run) -> None:
    with FakeServer(faults={fault}) as server:
        run = run_suite(server, "-k", "chat and not known_answer")
    assert _red(run) == CHAT | CHAT_STREAM


def test_a_failure_is_short(run_suite: Run) -> None:
    with FakeServer(faults={"usage_wrong"}) as server:
        run = run_suite(server, "-k", "a_prompt_is_completed")
    shown = run["output"].split("= FAILURES =")[1].split("= vLLM:")[0].splitlines()
    errors = [line for line in shown if line.startswith("E ")]
    assert errors[0].startswith("E       CheckFailed: usage.total_tokens must be prompt_tokens +")
    assert errors[1].startswith(f"E         curl -sS {server.url}/v1/completions")
    assert len(errors) == 2
    assert len(shown) < 15


def test_every_fault_is_tried_on_the_suite() -> None:
    elsewhere = {"version_500", "version_empty", "docs_500", "docs_not_html"}
    of_the_plugin = {"dies", "dies_in_chat"}
    healthy = {"is_slow"}
    assert set(ANY_MODEL) | elsewhere | of_the_plugin | healthy == set(FAULTS)
