"""What the chat model says after the words of the automata, and that text cannot say it."""

from __future__ import annotations

import json

import pytest

from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.automata import (
    AUTOMATA,
    CHAINS,
    THINK,
    THOUGHT,
    after_thinking,
)
from pytest_vllm.models.known_answer.tokenizer import encode
from pytest_vllm.models.known_answer.vocabulary import IDS

CHAT = predictor("known-answer/chat")
WORDS = [chain[0] for chain in CHAINS]
RECITED = [token for chain in CHAINS for token in chain[1:-1] if token is not None]


def _answer(word: str) -> str:
    ids = CHAT.chat_prompt_ids([{"role": "user", "content": AUTOMATA[word].question}])
    answer = CHAT.answer(ids, 64)
    assert answer.finish_reason == "stop"
    return answer.text


@pytest.mark.parametrize("word", AUTOMATA)
def test_the_answer_is_what_the_automaton_says(word: str) -> None:
    expected, text = AUTOMATA[word], _answer(word)
    thought, mark, rest = text.rpartition(THOUGHT.decode())
    assert thought.removeprefix(THINK.decode()) == (expected.reasoning or "")
    assert bool(mark) == (expected.reasoning is not None)
    content, *calls = rest.split("<tool_call>")
    assert content == expected.content
    parsed = [json.loads(call.partition("</tool_call>")[0]) for call in calls]
    assert [(c["name"], c["arguments"]) for c in parsed] == [
        (call.name, json.loads(call.arguments)) for call in expected.calls
    ]


@pytest.mark.parametrize("word", AUTOMATA)
def test_arguments_stand_in_the_answer_letter_by_letter(word: str) -> None:
    # So a parser that streams them and one that writes them anew give the same.
    assert all(call.arguments in _answer(word) for call in AUTOMATA[word].calls)


def test_text_never_becomes_a_token_that_is_recited() -> None:
    for token in RECITED:
        text = token.decode(errors="ignore")
        assert IDS[token] not in encode(f"{text} {text}")


def test_each_word_is_one_token_of_a_prompt() -> None:
    for word in WORDS:
        assert word is not None
        assert encode(f"x{word.decode()}")[-1] == IDS[word]


def test_a_small_bias_makes_a_call_follow_the_thought() -> None:
    thought, call = after_thinking()
    logits = CHAT.logits([IDS[thought]])
    logits[IDS[call]] += 2
    assert max(range(len(logits)), key=logits.__getitem__) == IDS[call]
    assert sorted(logits)[-2] == 1
