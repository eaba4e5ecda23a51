from __future__ import annotations

import pytest

from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.chat import Message, render
from pytest_vllm.models.known_answer.samples import QUESTIONS

CHAT = predictor("known-answer/chat")


def _user(content: str) -> list[Message]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        (_user("Say red?"), "<s><|user|>Say red?<|end|><|assistant|> red"),
        (_user("  "), "<s><|user|>  <|end|><|assistant|>"),
        (
            [{"role": "developer", "content": "x"}, {"role": "user", "content": "one two!.\n"}],
            "<s><|system|>x<|end|><|user|>one two!.\n<|end|><|assistant|> two",
        ),
        (
            [{"role": "user", "content": [{"text": "a"}, {"text": "b one"}]}],
            "<s><|user|>a\nb one<|end|><|assistant|> one",
        ),
        (
            [{"role": "assistant", "content": None}, {"role": "tool", "content": "Mars"}],
            "<s><|assistant|><|end|><|tool|>Mars<|end|><|assistant|> Mars",
        ),
    ],
    ids=["question", "blank", "developer", "parts", "tool result"],
)
def test_the_prompt_repeats_the_last_word_after_the_assistant_token(
    messages: list[Message], prompt: str
) -> None:
    assert render(messages) == prompt


def test_without_a_generation_prompt_the_conversation_is_left_as_it_is() -> None:
    assert render(_user("one"), add_generation_prompt=False) == "<s><|user|>one<|end|>"


def test_the_prompt_begins_with_one_bos_only() -> None:
    assert CHAT.chat_prompt_ids(_user("one")).count(CHAT.encode("")[0]) == 1


def test_the_answer_continues_the_question_and_ends_its_turn() -> None:
    answer = CHAT.answer(CHAT.chat_prompt_ids(_user("Name the planets from Mercury.")), 20)
    assert answer.text == " Venus Earth Mars Jupiter Saturn Uranus Neptune."
    assert answer.finish_reason == "stop"
    assert answer.steps[-1].text == "<|end|>"


def test_sample_questions_have_different_answers() -> None:
    answers = {CHAT.answer(CHAT.chat_prompt_ids(_user(text)), 30).text for text in QUESTIONS}
    assert len(answers) == len(QUESTIONS)


@pytest.mark.parametrize("name", ["known-answer/base", "known-answer/context"])
def test_a_model_without_a_template_refuses_to_chat(name: str) -> None:
    with pytest.raises(ValueError, match="has no chat template"):
        predictor(name).chat_prompt_ids(_user("hello"))


def test_tools_calls_and_results_are_part_of_the_prompt() -> None:
    schema = {"type": "object", "properties": {"city": {}, "days": {}}}
    tools: list[dict[str, object]] = [
        {"type": "function", "function": {"name": "f", "description": "F.", "parameters": schema}},
        {"type": "function", "function": {"name": "g"}},
    ]
    call = {"id": "1", "function": {"name": "f", "arguments": '{"city": "Zürich"}'}}
    messages: list[Message] = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "Mars"},
    ]
    assert render(messages, tools=tools) == (
        "<s><|tool|>f(city,days)F.<|end|><|tool|>g()<|end|>"
        '<|assistant|><|tool|>f {"city": "Zürich"}<|end|>'
        "<|tool|>Mars<|end|><|assistant|> Mars"
    )
