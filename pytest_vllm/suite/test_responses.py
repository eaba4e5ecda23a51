"""POST /v1/responses: what an answer says, and that it means the same as elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.client.readers.responses_items import LOGPROBS
from pytest_vllm.models.known_answer.samples import QUESTIONS
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.ask_for_more import (
    TIMES,
    USER,
    agree,
    blocks,
    chat_of,
    heard,
    prompt_ids,
    respond,
    text,
)
from pytest_vllm.suite.predicted import expected_chat_answer

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.chat_model,
    pytest.mark.requires("responses"),
    pytest.mark.endpoint("POST /v1/responses"),
    pytest.mark.source("OpenAI API reference: responses"),
]

SYSTEM = {"role": "system", "content": "Answer in one word"}
#: A conversation as input items, and the same as chat messages.
CONVERSATIONS: dict[str, tuple[list[Any], list[Any]]] = {
    "one": ([USER], [USER]),
    "system": ([SYSTEM, USER], [SYSTEM, USER]),
    "turns": (
        [
            USER,
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Tuesday"}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "And red?"}],
            },
        ],
        [
            USER,
            {"role": "assistant", "content": "Tuesday"},
            {"role": "user", "content": "And red?"},
        ],
    ),
    "turns of texts": (
        [USER, {"role": "assistant", "content": "Tuesday"}, USER],
        [USER, {"role": "assistant", "content": "Tuesday"}, USER],
    ),
    "developer": (
        [{"role": "developer", "content": "Answer in one word"}, USER],
        [{"role": "developer", "content": "Answer in one word"}, USER],
    ),
    "two parts": (
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "Count"},
                    {"type": "input_text", "text": "from one"},
                ],
            }
        ],
        [{"role": "user", "content": blocks("Count", "from one")}],
    ),
    "empty": ([{"role": "user", "content": ""}], [{"role": "user", "content": ""}]),
    "unicode": (
        [{"role": "user", "content": "你好, 😀 naïve"}],
        [{"role": "user", "content": "你好, 😀 naïve"}],
    ),
}
FORMS: dict[str, Any] = {
    "message": [USER],
    "typed": [{"type": "message", **USER}],
    "parts": [{"role": "user", "content": [{"type": "input_text", "text": USER["content"]}]}],
}
#: Sampling parameters that mean the same in completions.
SAMPLING: dict[str, dict[str, Any]] = {
    "seed": {"temperature": 1, "seed": 7},
    "temperature": {"temperature": 1.9, "seed": 8},
    "top_p": {"temperature": 1, "top_p": 0.4, "seed": 9},
    "top_k": {"temperature": 1, "top_k": 2, "seed": 10},
    "min_p": {"temperature": 1, "min_p": 0.3, "seed": 11},
    "presence_penalty": {"presence_penalty": 2},
    "frequency_penalty": {"frequency_penalty": 2},
    "repetition_penalty": {"repetition_penalty": 2.0},
    "logit_bias": {"logit_bias": {"20": 100}},
    "ignore_eos": {"ignore_eos": True, "max_output_tokens": 40},
}
GREEDY: dict[str, dict[str, Any]] = {
    "top_p": {"temperature": 1, "top_p": 1e-6},
    "top_k": {"temperature": 1, "top_k": 1},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_string_is_one_user_message(api: Api, form: str) -> None:
    agree(
        "A string as input must mean one message of the user",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model, FORMS[form])),
        of=heard,
    )


def test_instructions_are_a_system_message(api: Api) -> None:
    answer = agree(
        "instructions must mean a system message before the input",
        lambda: api.ask(respond(api.model, instructions=SYSTEM["content"])),
        lambda: api.ask(respond(api.model, [SYSTEM, USER])),
        of=heard,
    )
    longer, shorter = heard(answer)[1], heard(api.ask(respond(api.model)))[1]
    must(longer > shorter, "instructions must be part of the prompt", expected=f">{shorter}")


@pytest.mark.requires("tokenize")
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_text_follows_from_the_conversation(api: Api, name: str) -> None:
    items, messages = CONVERSATIONS[name]
    answer = api.ask(respond(api.model, items))
    ids = prompt_ids(api, messages, heard(answer)[1])
    agree(
        "The text must be what the model says to the prompt of the chat template",
        lambda: api.ask(completion(api.model, ids)),
        lambda: api.ask(respond(api.model, items)),
    )


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_prompt_and_the_text_are_those_of_chat(api: Api, name: str) -> None:
    items, messages = CONVERSATIONS[name]

    def of(answer: Answer) -> tuple[int, str]:
        usage = answer.json["usage"]
        return usage.get("input_tokens", usage.get("prompt_tokens")), text(answer)

    agree(
        "Tokens of the prompt and text must be those of /v1/chat/completions",
        lambda: api.ask(chat_of(api.model, messages)),
        lambda: api.ask(respond(api.model, items)),
        of=of,
        tries=2,
    )


@pytest.mark.requires("tokenize", "vllm")
@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_parameters_mean_the_same_as_in_completions(api: Api, name: str) -> None:
    more = dict(SAMPLING[name])
    asked = respond(api.model, **more)
    ids = prompt_ids(api, [USER], heard(api.ask(asked))[1])
    more["max_tokens"] = more.pop("max_output_tokens", 16)
    agree(
        f"{name} must mean the same in /v1/responses and /v1/completions",
        lambda: api.ask(completion(api.model, ids, **more)),
        lambda: api.ask(asked),
    )


@pytest.mark.parametrize("name", GREEDY)
def test_one_candidate_is_greedy(api: Api, name: str) -> None:
    agree(
        f"Only the best token is left by this {name}, so the text must be the greedy one",
        lambda: api.ask(respond(api.model)),
        lambda: api.ask(respond(api.model, **GREEDY[name])),
    )


def test_temperature_makes_texts_differ(api: Api) -> None:
    texts = [text(api.ask(respond(api.model, temperature=2))) for _ in range(4)]
    must(len(set(texts)) > 1, "Texts at temperature 2 must not all be the same", seen=texts[0])


@pytest.mark.parametrize("limit", [1, 5])
def test_max_output_tokens_cuts_the_text(api: Api, limit: int) -> None:
    long = api.ask(respond(api.model))
    count = min(limit, long.json["usage"]["output_tokens"])
    short = agree(
        f"max_output_tokens={limit} must give as many tokens, the first of the whole text",
        lambda: api.ask(respond(api.model, max_output_tokens=limit)),
        of=lambda a: (a.json["usage"]["output_tokens"], a.json["status"]),
    )
    made = short.json["usage"]["output_tokens"]
    must(made == count, f"max_output_tokens={limit} must be reached", expected=count, seen=made)
    _begins(text(long), text(short))


def _begins(long: str, short: str) -> None:
    # What ends in the middle of a character is not a beginning.
    begin = short.rstrip("\ufffd")
    rule = "A cut text must be the beginning of the whole one"
    must(long.startswith(begin), rule, expected=long, seen=short)


@pytest.mark.requires("vllm")
def test_a_stop_string_ends_the_text(api: Api) -> None:
    whole = text(api.ask(respond(api.model)))
    stop = whole[len(whole) // 2 :][:3].replace("\ufffd", "")
    if not stop:
        api.unsupported("the greedy text is too short to find a stop string in it")
    begin = whole[: whole.index(stop)]
    if not begin:
        api.unsupported("the greedy text repeats itself from its first letter on")
    answer = api.both(respond(api.model, stop=[stop]), ignore=TIMES)
    must(text(answer) == begin, "The text must end before `stop`", expected=begin, seen=answer.json)
    kept = api.ask(respond(api.model, stop=stop, include_stop_str_in_output=True))
    rule = "include_stop_str_in_output must keep the stop string"
    must(text(kept) == begin + stop, rule, expected=begin + stop, seen=text(kept))


@pytest.mark.requires("tokenize", "vllm")
def test_logprobs_are_those_of_completions(api: Api) -> None:
    asked = respond(api.model, include=[LOGPROBS], top_logprobs=3, max_output_tokens=6)
    answer = api.both(asked, ignore=TIMES)
    ids = prompt_ids(api, [USER], heard(answer)[1])
    other = api.ask(completion(api.model, ids, logprobs=3, max_tokens=6)).json["choices"][0]
    for at, entry in enumerate(answer.json["output"][0]["content"][0]["logprobs"]):
        expected = other["logprobs"]["token_logprobs"][at]
        if not _near(entry["logprob"], expected):
            rule = f"logprobs[{at}] must be that of /v1/completions"
            raise CheckFailed(rule, expected=expected, seen=entry["logprob"])


def _near(a: float, b: float) -> bool:
    return abs(a - b) < 0.05


def test_two_answers_have_different_ids(api: Api) -> None:
    answers = [api.ask(respond(api.model, max_output_tokens=1)).json for _ in range(2)]
    ids = [name for a in answers for name in (a["id"], *(item["id"] for item in a["output"]))]
    must(len(set(ids)) == len(ids), "Each answer and item must have its own id", seen=ids)


def test_answers_at_the_same_time_are_not_mixed_up(api: Api) -> None:
    words = ("Monday", "two Mercury", "red and then orange", "first")
    asked = [respond(api.model, w, metadata={"who": w}, instructions=w, user=w) for w in words]
    alone = [heard(api.ask(request)) for request in asked]
    for _ in range(3):
        answers = api.together(*[lambda r=r: api.ask(r) for r in (*asked, *asked)])
        seen = [heard(answer) for answer in answers]
        if seen == alone * 2:
            break
    counts = [count for _, count in seen]
    rule = "Each of the answers that are asked for together must be the one to its question"
    must(counts == [count for _, count in alone] * 2, rule, expected=alone, seen=seen)
    must(seen == alone * 2, rule, expected=alone, seen=seen)


@pytest.mark.requires("known-answer/chat")
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_text_is_the_predicted_one(api: Api, question: str) -> None:
    expected = expected_chat_answer(api.model, question, max_tokens=32)
    answer = api.both(respond(api.model, question, max_output_tokens=32), ignore=TIMES)
    must(text(answer) == expected.text, "The text must be the predicted one", seen=text(answer))
    status = "completed" if expected.finish_reason == "stop" else "incomplete"
    seen = answer.json["status"]
    must(seen == status, f"status must be {status}", expected=status, seen=seen)
    made, right = answer.json["usage"]["output_tokens"], len(expected.positions)
    must(made == right, "usage.output_tokens must be exact", expected=right, seen=made)
