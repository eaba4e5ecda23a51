"""Known-answer models: what each parameter makes of the greedy answer is known to the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.checks_exact import generates, has_choices
from pytest_vllm.models.known_answer.vocabulary import IDS
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.predicted import foretell, shortened

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api

pytestmark = [
    pytest.mark.requires("known-answer"),
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference; vLLM docs, Sampling Parameters"),
]

DAYS = "Today is Monday"  # " Tuesday Wednesday …", without end
NUMBERS = "Count from one"  # " two three … twenty." and the end token
LETTERS = "a b"  # "cdefgh…"
TWICE = " Tuesday Tuesday Monday"
UNICODE = "Say unicode"  # "中文😀." and the end token; characters split over tokens
EARTH, FRIDAY, THREE, FIVE = (IDS[w] for w in (b" Earth", b" Friday", b" three", b" five"))
TUESDAY, WEDNESDAY, DOT = IDS[b" Tuesday"], IDS[b" Wednesday"], IDS[b"."]


def _between(tuesday: float, friday: float, **more: Any) -> dict[str, Any]:
    """One token, which is " Tuesday" or " Friday": with these biases, the rest decides."""
    bias = {str(TUESDAY): tuesday, str(FRIDAY): friday}
    return {"logit_bias": bias, "max_tokens": 1, **more}


#: What OpenAI's reference has: any server must do it.
OPENAI: dict[str, tuple[str, dict[str, Any]]] = {
    "max_tokens=1": (NUMBERS, {"max_tokens": 1}),
    "max_tokens=5": (NUMBERS, {"max_tokens": 5}),
    "the end token ends": (NUMBERS, {"max_tokens": 64}),
    "max_tokens at the end token": (NUMBERS, {"max_tokens": 21}),
    "max_tokens before the end token": (NUMBERS, {"max_tokens": 20}),
    "stop on a token border": (NUMBERS, {"stop": " four"}),
    "stop across a token border": (NUMBERS, {"stop": "ve si"}),
    "stop inside a token": (NUMBERS, {"stop": "even"}),
    "stop over three tokens": (NUMBERS, {"stop": "ee four fi"}),
    "stop that begins like the text": (NUMBERS, {"stop": " two three nine"}),
    "stop as the first thing": (NUMBERS, {"stop": " two"}),
    "stop list, the earlier wins": (NUMBERS, {"stop": ["nine", "seven", "never"]}),
    "stop list of four": (NUMBERS, {"stop": ["a", "b", "c", " eight"]}),
    "stop is case-sensitive": (NUMBERS, {"stop": " FOUR"}),
    "stop is no pattern": (NUMBERS, {"stop": ".our", "max_tokens": 8}),
    "stop only in the prompt": (NUMBERS, {"stop": "Count"}),
    "stop at the last token": (NUMBERS, {"stop": " six", "max_tokens": 5}),
    "stop of several bytes": (UNICODE, {"stop": "文"}),
    "stop of a split character": (UNICODE, {"stop": "😀"}),
    "stop that never comes": (UNICODE, {"stop": ["zzz", "中x"]}),
    "logit_bias forces": (DAYS, {"logit_bias": {str(FRIDAY): 100}, "max_tokens": 4}),
    "logit_bias bans": (DAYS, {"logit_bias": {str(TUESDAY): -100}, "max_tokens": 6}),
    "logit_bias lifts": (DAYS, {"logit_bias": {str(EARTH): 40}, "max_tokens": 4}),
    "logit_bias too small": (DAYS, {"logit_bias": {str(TUESDAY): -0.5}, "max_tokens": 4}),
    "logit_bias for two": (DAYS, {"logit_bias": {str(TUESDAY): -9, str(FRIDAY): 9}}),
    "presence_penalty": (DAYS, {"presence_penalty": 1.9}),
    "presence_penalty < 0": (DAYS, {"presence_penalty": -1.9}),
    "frequency_penalty": (DAYS, {"frequency_penalty": 0.6, "max_tokens": 32}),
    "frequency_penalty < 0": (DAYS, {"frequency_penalty": -1.1}),
    "both penalties": (DAYS, {"presence_penalty": 0.3, "frequency_penalty": 0.3}),
    "penalty and bias": (DAYS, {"presence_penalty": 1.4, "logit_bias": {str(FRIDAY): 2.0}}),
}

#: What vLLM adds.
VLLM: dict[str, tuple[str, dict[str, Any]]] = {
    # The prompt has " Tuesday" twice; the bias puts it and " Friday" where the size of the penalty
    # decides between them. Applied twice, or once for each time, it would be another.
    "repetition_penalty": (TWICE, _between(9, 25, repetition_penalty=2.0)),
    "repetition_penalty is applied once": (TWICE, _between(9, 24, repetition_penalty=1.5)),
    "repetition_penalty < 1": (TWICE, _between(1, 21.5, repetition_penalty=0.5)),
    "repetition_penalty < 1 is applied once": (TWICE, _between(4, 26, repetition_penalty=0.75)),
    "repetition_penalty lowers a negative logit": (
        TWICE,
        _between(-6, 12, repetition_penalty=1.5, allowed_token_ids=[TUESDAY, FRIDAY]),
    ),
    "repetition_penalty counts the answer": (
        DAYS,
        {"repetition_penalty": 40.0, "logit_bias": {str(FRIDAY): 40}, "max_tokens": 4},
    ),
    "presence_penalty ignores the prompt": (
        " Tuesday Tuesday Monday",
        {"presence_penalty": 2.0, "frequency_penalty": 2.0, "max_tokens": 1},
    ),
    "bad_words": (LETTERS, {"bad_words": ["c"], "max_tokens": 8}),
    "bad_words, the second": (LETTERS, {"bad_words": ["zz", "e"], "max_tokens": 8}),
    "bad_words of two tokens": (LETTERS, {"bad_words": ["zz", "de"], "max_tokens": 8}),
    "bad_words that never come": (DAYS, {"bad_words": ["Wednesday"], "max_tokens": 8}),
    "allowed_token_ids": (
        DAYS,
        {"allowed_token_ids": [THREE, FIVE, FRIDAY, TUESDAY], "max_tokens": 5},
    ),
    "allowed, and one banned": (
        DAYS,
        {"allowed_token_ids": [TUESDAY, WEDNESDAY], "bad_words": ["Tuesday"], "max_tokens": 3},
    ),
    "min_tokens past the end token": (NUMBERS, {"min_tokens": 24, "max_tokens": 30}),
    "min_tokens before the end token": (NUMBERS, {"min_tokens": 4, "max_tokens": 30}),
    "min_tokens and a stop token": (NUMBERS, {"min_tokens": 6, "stop_token_ids": [THREE]}),
    "min_tokens and a stop string": (DAYS, {"min_tokens": 8, "stop": " Friday"}),
    "ignore_eos": (NUMBERS, {"ignore_eos": True, "max_tokens": 26}),
    "stop_token_ids": (NUMBERS, {"stop_token_ids": [FIVE]}),
    "stop_token_ids, the first that comes": (NUMBERS, {"stop_token_ids": [FIVE, DOT, THREE]}),
    "stop string and ignore_eos": (NUMBERS, {"stop": " six", "ignore_eos": True}),
    "stop_token_ids and ignore_eos": (NUMBERS, {"stop_token_ids": [FIVE], "ignore_eos": True}),
    "stop token that stays": (
        NUMBERS,
        {"stop_token_ids": [FIVE], "include_stop_str_in_output": True},
    ),
    "stop string that stays": (NUMBERS, {"stop": "ve si", "include_stop_str_in_output": True}),
    "stop of split bytes that stays": (UNICODE, {"stop": "文", "include_stop_str_in_output": True}),
    "stop token inside a character": (UNICODE, {"stop_token_ids": [IDS[b"\xf0\x9f"]]}),
}


@pytest.mark.core
@pytest.mark.parametrize("name", OPENAI)
def test_a_parameter_has_its_exact_effect(api: Api, name: str) -> None:
    _is_foretold(api, *OPENAI[name])


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("name", VLLM)
def test_a_vllm_parameter_has_its_exact_effect(api: Api, name: str) -> None:
    _is_foretold(api, *VLLM[name])


def _is_foretold(api: Api, prompt: str, fields: dict[str, Any]) -> None:
    __tracebackhide__ = True
    more = {"return_token_ids": True} if api.has("vllm") else {}
    request = shortened(completion(api.model, prompt, **fields))
    told = foretell(request)
    api.both(request.but(**more)).check(
        generates(told.text, told.finish_reason, told.stop_reason, told.token_ids)
    )


@pytest.mark.core
def test_each_prompt_of_a_batch_has_its_exact_answer(api: Api) -> None:
    requests = [completion(api.model, prompt) for prompt in (DAYS, NUMBERS, UNICODE)]
    batch = completion(api.model).but(prompt=[r.get("prompt") for r in requests])
    told = [foretell(request) for request in requests]
    answer = api.both(batch)
    answer.check(has_choices([(t.text, t.finish_reason) for t in told]))
