from __future__ import annotations

import pytest

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.checks import (
    CHAT_ANSWER,
    COMPLETION_ANSWER,
    chat_text,
    completion_text,
    has_shape,
    is_html,
    is_json,
    lists_model,
    message_text,
)
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import chat, completion
from tests.unit.client.exchanges import CURL, answer_to

#: Fault -> what the failure says, for a completion and for a chat alike.
EITHER = {
    "not_json_type": r'The content type must be application/json: got "text/plain"',
    "broken_json": r"The body must be JSON \(Expecting .*\): got \{",
    "nan": r"The body must be JSON \(NaN is not JSON\)",
    "no_id": "id must be a non-empty string: got nothing: it is missing",
    "empty_id": 'id must be a non-empty string: got ""',
    "other_object": r'object must be "(text_|chat\.)completion": got "completion"',
    "created_ms": r"created must be a Unix time in whole seconds: got \d{13}",
    "created_float": r"created must be a Unix time in whole seconds: got \d+\.5",
    "other_model": '`model` must be the one that was asked for: expected "m", got "x"',
    "no_choices": "choices must be there",
    "two_choices": r"There must be one choice, with index 0: expected \[0\], got \[0, 1\]",
    "index_one": r"There must be one choice, with index 0: expected \[0\], got \[1\]",
    "other_finish": r"choices\[0\].finish_reason must be one of stop, .*: got \"eos_token\"",
    "null_finish": r"choices\[0\].finish_reason must be one of stop, .*: got null",
    "empty_text": 'The generated text must not be empty: got ""',
    "no_usage": "usage must be there",
    "usage_wrong": r"usage.total_tokens must be .*: expected \d+, got 1",
    "usage_negative": "usage.completion_tokens must be an integer, 0 or more: got -1",
    "usage_no_prompt": "usage.prompt_tokens must count the prompt: got 0",
    "usage_over_limit": r"usage.completion_tokens must agree with max_tokens=16 .*: got 99",
    "finish_too_early": "usage.completion_tokens must agree with .* finish_reason=length: got 1",
}
COMPLETION_ONLY = {"no_text": r"choices\[0\].text must be a string: got nothing"}
CHAT_ONLY = {
    "no_message": r"choices\[0\].message must be there",
    "other_role": r'choices\[0\].message.role must be "assistant": got "bot"',
}


def test_a_healthy_completion_passes() -> None:
    answer = answer_to(completion("m"))
    assert answer.check(*COMPLETION_ANSWER) is answer
    assert completion_text(answer) == "tuvwxyz."


def test_a_healthy_chat_passes() -> None:
    answer = answer_to(chat("m", "What comes after Monday?", max_tokens=2))
    assert answer.check(*CHAT_ANSWER) is answer
    assert chat_text(answer) == " Tuesday Wednesday"


@pytest.mark.parametrize(("fault", "message"), (EITHER | COMPLETION_ONLY).items())
def test_each_broken_rule_of_a_completion_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{message}") as caught:
        answer_to(completion("m"), fault).check(*COMPLETION_ANSWER)
    assert str(caught.value).endswith(CURL)


@pytest.mark.parametrize(("fault", "message"), (EITHER | CHAT_ONLY).items())
def test_each_broken_rule_of_a_chat_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=f"^{message}") as caught:
        answer_to(chat("m"), fault).check(*CHAT_ANSWER)
    assert str(caught.value).endswith(CURL)


def test_the_whole_budget_used_is_no_contradiction() -> None:
    answer_to(completion("m", "Today is Monday", max_tokens=3)).check(*COMPLETION_ANSWER)


def test_reasoning_counts_as_text() -> None:
    assert message_text({"content": None, "reasoning": "Hm."}) == "Hm."
    assert message_text({"content": " Yes.", "reasoning_content": "Hm."}) == "Hm. Yes."
    assert message_text({}) == ""


MODELS = Request("GET", "/v1/models")
VERSION = Request("GET", "/version")
DOCS = Request("GET", "/docs")


def test_healthy_pages_pass() -> None:
    answer_to(MODELS).check(is_json, has_shape(shapes.MODEL_LIST), lists_model("m"))
    answer_to(VERSION).check(is_json, has_shape(shapes.VERSION))
    answer_to(DOCS).check(is_html)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("models_empty", r'The list must name the served model: expected "m", got \[\]'),
        ("models_other", r'The list must name the served model: expected "m", got \["x"\]'),
        ("models_no_list", 'object must be "list": got "x"'),
    ],
)
def test_a_wrong_list_of_models_is_found(fault: str, message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        answer_to(MODELS, fault).check(has_shape(shapes.MODEL_LIST), lists_model("m"))


def test_an_empty_version_is_found() -> None:
    with pytest.raises(CheckFailed, match="version must be a non-empty string"):
        answer_to(VERSION, "version_empty").check(has_shape(shapes.VERSION))


def test_a_page_of_another_type_is_found() -> None:
    with pytest.raises(CheckFailed, match=r'must be text/html: got "text/plain"'):
        answer_to(DOCS, "docs_not_html").check(is_html)
