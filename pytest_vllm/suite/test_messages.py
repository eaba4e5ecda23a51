"""POST /v1/messages (Anthropic): what an answer says, and that it means the same as in chat."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.exchange import Request
from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer.samples import QUESTIONS
from pytest_vllm.suite.ask_for_more import (
    CACHED,
    QUESTION,
    USER,
    agree,
    blocks,
    chat_of,
    count_of,
    heard,
    message,
    text,
)
from pytest_vllm.suite.predicted import expected_chat_answer

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("messages"),
    pytest.mark.endpoint("POST /v1/messages"),
    pytest.mark.source("Anthropic API reference: messages"),
]

WORDS = "Answer in one word"
SYSTEM = {"role": "system", "content": WORDS}
TURNS = [
    USER,
    {"role": "assistant", "content": "Tuesday"},
    {"role": "user", "content": "And red?"},
]

#: What a request has, and the same conversation as chat messages.
CONVERSATIONS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "one": ({"messages": [USER]}, [USER]),
    "system": ({"messages": [USER], "system": WORDS}, [SYSTEM, USER]),
    "system as a block": ({"messages": [USER], "system": blocks(WORDS)}, [SYSTEM, USER]),
    "turns": ({"messages": TURNS}, TURNS),
    "a block": ({"messages": [{"role": "user", "content": blocks(QUESTION)}]}, [USER]),
    "two blocks": (
        {"messages": [{"role": "user", "content": blocks("Count", "from one")}]},
        [{"role": "user", "content": blocks("Count", "from one")}],
    ),
    "turns of blocks": (
        {"messages": [{**turn, "content": blocks(turn["content"])} for turn in TURNS]},
        TURNS,
    ),
    "unicode": (
        {"messages": [{"role": "user", "content": "你好, 😀 naïve"}]},
        [{"role": "user", "content": "你好, 😀 naïve"}],
    ),
    "empty": ({"messages": [{"role": "user", "content": ""}]}, [{"role": "user", "content": ""}]),
}
#: What leaves one candidate only.
GREEDY: dict[str, dict[str, Any]] = {
    "top_p": {"temperature": 1, "top_p": 1e-6},
    "top_k": {"temperature": 1, "top_k": 1},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_prompt_and_the_text_are_those_of_chat(api: Api, name: str) -> None:
    more, messages = CONVERSATIONS[name]
    agree(
        "Text and tokens of the prompt must be those of /v1/chat/completions",
        lambda: api.ask(chat_of(api.model, messages)),
        lambda: api.ask(message(api.model, **more)),
        of=heard,
    )


@pytest.mark.endpoint("POST /v1/messages/count_tokens")
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_tokens_counted_are_those_of_the_answer(api: Api, name: str) -> None:
    asked = message(api.model, **CONVERSATIONS[name][0], max_tokens=1)
    expected = heard(api.ask(asked))[1]
    seen = api.ask(count_of(asked)).json["input_tokens"]
    rule = "count_tokens must count what the same message counts as its prompt"
    must(seen == expected, rule, expected=expected, seen=seen)


@pytest.mark.requires("tokenize")
@pytest.mark.endpoint("POST /v1/messages/count_tokens")
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_tokens_counted_are_those_of_tokenize(api: Api, name: str) -> None:
    more, messages = CONVERSATIONS[name]
    seen = api.ask(count_of(message(api.model, **more))).json["input_tokens"]
    body = {"model": api.model, "messages": messages}
    expected = api.ask(Request("POST", "/tokenize", body)).json["count"]
    rule = "count_tokens must count the tokens that /tokenize makes of the messages"
    must(seen == expected, rule, expected=expected, seen=seen)


def test_every_part_of_a_prompt_counts(api: Api) -> None:
    counts = [
        api.ask(count_of(message(api.model, **CONVERSATIONS[name][0]))).json["input_tokens"]
        for name in ("empty", "one", "system", "turns")
    ]
    empty, one, system, turns = counts
    must(empty < one < system and one < turns, "A longer prompt must have more tokens", seen=counts)


@pytest.mark.parametrize("name", GREEDY)
def test_one_candidate_is_greedy(api: Api, name: str) -> None:
    agree(
        f"Only the best token is left by this {name}, so the text must be the greedy one",
        lambda: api.ask(message(api.model)),
        lambda: api.ask(message(api.model, **GREEDY[name])),
    )


def test_top_k_leaves_as_many_candidates(api: Api) -> None:
    asked = message(api.model, temperature=1, top_k=2, max_tokens=1)
    answers = set(api.together(*[lambda: text(api.ask(asked))] * 12))
    # A third is let pass: where second and third are nearly equal, rounding may swap them.
    most = 2 if api.has("known-answer/chat") else 3
    rule = "With top_k=2 the first token must be one of two"
    must(len(answers) <= most, rule, seen=sorted(answers))


def test_temperature_makes_texts_differ(api: Api) -> None:
    texts = [text(api.ask(message(api.model, temperature=1.9))) for _ in range(4)]
    must(len(set(texts)) > 1, "Texts at temperature 1.9 must not all be the same", seen=texts[0])


@pytest.mark.parametrize("limit", [1, 5])
def test_max_tokens_cuts_the_text(api: Api, limit: int) -> None:
    long, short = api.ask(message(api.model)), api.ask(message(api.model, max_tokens=limit))
    made = short.json["usage"]["output_tokens"]
    count = min(limit, long.json["usage"]["output_tokens"])
    must(made == count, f"max_tokens={limit} must be reached", expected=count, seen=made)
    agree(
        f"max_tokens={limit} must give the beginning of the whole text",
        lambda: api.ask(message(api.model)),
        lambda: api.ask(message(api.model, max_tokens=limit)),
        of=lambda a: text(a)[: len(text(short).rstrip("\ufffd"))],
    )


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_a_stop_sequence_ends_the_text(api: Api, streamed: bool) -> None:
    whole = text(api.ask(message(api.model)))
    stop = whole[len(whole) // 2 :][:3].replace("\ufffd", "")
    if not stop:
        api.unsupported("the greedy text is too short to find a stop sequence in it")
    stops = ["\x00 never", stop]
    asked = message(api.model, stop_sequences=stops if streamed else stops[::-1])
    answer = api.whole(asked) if streamed else api.ask(asked)
    begin = whole[: whole.index(stop)]
    rule = "The text must end before the stop sequence"
    must(text(answer) == begin, rule, expected=begin, seen=text(answer))
    seen = answer.json["stop_reason"]
    rule = "stop_reason must be stop_sequence where one was met"
    must(seen == "stop_sequence", rule, seen=seen)  # which one, the reader checks


def test_a_stop_sequence_that_is_not_met_changes_nothing(api: Api) -> None:
    def of(answer: Answer) -> tuple[str, str]:
        return text(answer), answer.json["stop_reason"]

    agree(
        "A stop sequence that is not met must not change the answer",
        lambda: api.ask(message(api.model)),
        lambda: api.ask(message(api.model, stop_sequences=["\x00 never"])),
        lambda: api.ask(message(api.model, stop_sequences=[])),
        of=of,
    )


def test_what_says_nothing_to_the_model_changes_nothing(api: Api) -> None:
    names = ("system", "tools", "tool_choice", "stop_sequences", "top_k", "top_p", "stream")
    nulls: dict[str, Any] = dict.fromkeys((*names, "thinking", "metadata"))
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "x-1", "x-api-key": "none"}
    agree(
        "Nulls, metadata, unknown fields and Anthropic's headers must not change the answer",
        lambda: api.ask(message(api.model)),
        lambda: api.ask(message(api.model, **nulls)),
        lambda: api.ask(message(api.model, metadata={"user_id": "u"}, zzz=1, stream=False)),
        lambda: api.ask(replace(message(api.model), headers=headers)),
        of=heard,
    )


def test_two_messages_have_different_ids(api: Api) -> None:
    ids = [api.ask(message(api.model, max_tokens=1)).json["id"] for _ in range(2)]
    must(ids[0] != ids[1], "Each message must have an id of its own", seen=ids)


def test_messages_at_the_same_time_are_not_mixed_up(api: Api) -> None:
    words = ("Monday", "two Mercury", "red and then orange", "first")
    asked = [message(api.model, w, system=w) for w in words]
    alone = [heard(api.ask(request)) for request in asked]
    for _ in range(3):
        calls = [lambda r=r: api.ask(r) for r in asked]
        calls += [lambda r=r: api.whole(r) for r in asked]
        seen = [heard(answer) for answer in api.together(*calls)]
        if seen == alone * 2:
            break
    rule = "Each of the messages that are asked for together must be answered by its own"
    must(seen == alone * 2, rule, expected=alone, seen=seen)


@pytest.mark.requires("known-answer/chat")
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_text_is_the_predicted_one(api: Api, question: str) -> None:
    expected = expected_chat_answer(api.model, question, max_tokens=32)
    answer = api.both(message(api.model, question, max_tokens=32), ignore=CACHED)
    must(text(answer) == expected.text, "The text must be the predicted one", seen=text(answer))
    reason = "end_turn" if expected.finish_reason == "stop" else "max_tokens"
    seen = answer.json["stop_reason"]
    must(seen == reason, f"stop_reason must be {reason}", expected=reason, seen=seen)
    made, right = answer.json["usage"]["output_tokens"], len(expected.positions)
    must(made == right, "usage.output_tokens must be exact", expected=right, seen=made)
