"""POST /v1/completions: what ends an answer, and how it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.facts import end_token, found_prompt, text_of, varied

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer
    from pytest_vllm.suite.facts import Greedy

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions (stop)"),
]

VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]

#: Stop strings as a part of the greedy text: where it begins and ends.
PLACES: dict[str, Callable[[Greedy], str]] = {
    "at the start": lambda g: g.tokens[0],
    "one letter": lambda g: g.text[len(g.tokens[0])],
    "one token": lambda g: g.tokens[2],
    "part of a token": lambda g: g.tokens[1][-1:],
    "across two tokens": lambda g: g.tokens[1][-1:] + g.tokens[2][:1],
    "several tokens": lambda g: "".join(g.tokens[1:4]),
    "nearly the whole": lambda g: g.text[1:],
    "at the end": lambda g: g.text[-3:],
}


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    if seen != expected:
        raise CheckFailed(rule, expected=expected, seen=seen).reproduced_by(answer.curl)


def _must_stop(
    api: Api, answer: Answer, text: str, reason: str | int | None, tokens: int | None = None
) -> None:
    __tracebackhide__ = True
    [choice] = answer.json["choices"]
    _must_be("The text must end where the stop is", text, choice["text"], answer)
    _must_be("finish_reason must be stop", "stop", choice["finish_reason"], answer)
    if api.has("vllm"):
        rule = "stop_reason must be what stopped it"
        _must_be(rule, reason, choice["stop_reason"], answer)
    if tokens is not None:
        seen = answer.json["usage"]["completion_tokens"]
        _must_be("The tokens up to the stop must be counted", tokens, seen, answer)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("as_list", [False, True], ids=["string", "list"])
def test_a_stop_string_ends_the_text(
    api: Api, place: Callable[[Greedy], str], as_list: bool
) -> None:
    prompt, known = found_prompt(api)
    stop = place(known)
    at = known.text.find(stop)
    answer = api.both(varied(api, prompt, stop=[stop] if as_list else stop))
    _must_stop(api, answer, known.text[:at], stop, known.tokens_until(at + len(stop)))


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_stop_string_is_kept_where_asked_for(api: Api, place: Callable[[Greedy], str]) -> None:
    prompt, known = found_prompt(api)
    stop = place(known)
    end = known.text.find(stop) + len(stop)
    answer = api.both(varied(api, prompt, stop=stop, include_stop_str_in_output=True, logprobs=1))
    _must_stop(api, answer, known.text[:end], stop, known.tokens_until(end))


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize(
    "more",
    [{"stop": [f"\u2603{number}" for number in range(3)]}, {"stop": [], "ignore_eos": True}],
    ids=["the fourth", "ignore_eos"],
)
def test_a_stop_string_ends_the_text_nevertheless(api: Api, more: dict[str, Any]) -> None:
    prompt, known = found_prompt(api)
    stop = known.tokens[2]
    at = known.text.find(stop)
    answer = api.both(varied(api, prompt, **{**more, "stop": [*more["stop"], stop]}))
    _must_stop(api, answer, known.text[:at], stop, known.tokens_until(at + len(stop)))


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "reversed"])
def test_the_stop_that_comes_first_wins(api: Api, order: int) -> None:
    prompt, known = found_prompt(api)
    stops = ["".join(known.tokens[at : at + 2]) for at in (0, 2)]
    stops = ["\u2603 never", *stops, known.text[-1:] + "\u2603"][::order]
    first = "".join(known.tokens[:2])
    answer = api.both(varied(api, prompt, stop=stops))
    _must_stop(api, answer, known.text[: known.text.find(first)], first)


@pytest.mark.parametrize(
    "stop",
    ["\u2603 never", ["\u2603", "never\u2603"], ["a\u2603", "b\u2603", "c\u2603", "d\u2603"]],
    ids=["string", "list", "four"],
)
def test_a_stop_that_never_comes_changes_nothing(api: Api, stop: Any) -> None:
    prompt, known = found_prompt(api)
    answer = api.both(varied(api, prompt, stop=stop))
    [choice] = answer.json["choices"]
    _must_be("A stop that never comes must change nothing", known.text, choice["text"], answer)


def test_a_stop_that_only_begins_changes_nothing(api: Api) -> None:
    prompt, known = found_prompt(api)
    for part in (known.text[-2:], known.tokens[1], known.text[1:4]):
        answer = api.both(varied(api, prompt, stop=f"{part}\u2603"))
        text = answer.json["choices"][0]["text"]
        rule = "Text that is only the beginning of a stop string must not be lost"
        _must_be(rule, known.text, text, answer)


def test_a_stop_in_the_prompt_does_not_count(api: Api) -> None:
    prompt, known = found_prompt(api)
    stop = prompt[:4]
    if stop in known.text:
        api.unsupported(f"the model repeats {stop!r}")
    answer = api.both(varied(api, prompt, stop=stop, echo=True))
    rule = "A stop string in the prompt must not end the answer"
    _must_be(rule, prompt + known.text, answer.json["choices"][0]["text"], answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("kept", [False, True], ids=["cut", "kept"])
def test_a_stop_token_ends_the_text(api: Api, at: int, kept: bool) -> None:
    prompt, known = found_prompt(api)
    stop = known.ids[at]
    at = known.ids.index(stop)
    more = {"stop_token_ids": [stop], "include_stop_str_in_output": kept}
    answer = api.both(varied(api, prompt, return_token_ids=True, logprobs=1, **more))
    text = "".join(known.tokens[: at + 1 if kept else at])
    _must_stop(api, answer, text, stop, at + 1)
    ids = answer.json["choices"][0]["token_ids"]
    _must_be("token_ids must end with the stop token", list(known.ids[: at + 1]), ids, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_of_stop_strings_and_tokens_the_first_wins(api: Api) -> None:
    prompt, known = found_prompt(api)
    stop, late = known.tokens[1], known.ids[3]
    if late in known.ids[:2]:
        api.unsupported("the model repeats itself")
    answer = api.both(varied(api, prompt, stop=stop, stop_token_ids=[late]))
    _must_stop(api, answer, known.text[: known.text.find(stop)], stop)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_min_tokens_holds_back_a_stop_string(api: Api) -> None:
    prompt, known = found_prompt(api)
    stop = known.tokens[0]
    answer = api.both(varied(api, prompt, stop=stop, min_tokens=3, return_token_ids=True))
    count = len(answer.json["choices"][0]["token_ids"])
    if count < 3:
        raise CheckFailed(
            "min_tokens must hold back a stop string", expected=3, seen=count
        ).reproduced_by(answer.curl)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("logprobs", [None, 1], ids=["plain", "logprobs"])
def test_the_end_token_ends_an_answer(api: Api, logprobs: int | None) -> None:
    end = end_token(api)
    request = varied(api, logit_bias={str(end): 100}, return_token_ids=True, logprobs=logprobs)
    answer = api.both(request.but(frequency_penalty=0))
    _must_stop(api, answer, "", None, 1)
    ids = answer.json["choices"][0]["token_ids"]
    _must_be("token_ids must have the end token", [end], ids, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_ignore_eos_goes_on_after_the_end_token(api: Api) -> None:
    end = end_token(api)
    request = varied(
        api,
        logit_bias={str(end): 100},
        ignore_eos=True,
        return_token_ids=True,
        max_tokens=6,
        frequency_penalty=0,
    )
    answer = api.both(request)
    [choice] = answer.json["choices"]
    _must_be("finish_reason must be length", "length", choice["finish_reason"], answer)
    _must_be("Special tokens must not be in the text", "", choice["text"], answer)
    _must_be("ignore_eos must go on", [end] * 6, choice["token_ids"], answer)
    shown = api.both(request.but(skip_special_tokens=False))
    text = shown.json["choices"][0]["text"]
    if not text or text.replace(" ", "") != text_of(api, [end] * 6).replace(" ", ""):
        raise CheckFailed(
            "skip_special_tokens=false must show special tokens",
            expected=text_of(api, [end] * 6),
            seen=text,
        ).reproduced_by(shown.curl)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("least", [1, 3])
def test_min_tokens_holds_back_the_end_token(api: Api, least: int) -> None:
    end = end_token(api)
    request = varied(api, logit_bias={str(end): 100}, min_tokens=least, frequency_penalty=0)
    answer = api.both(request.but(return_token_ids=True, max_tokens=12))
    ids = answer.json["choices"][0]["token_ids"]
    _must_be("min_tokens must hold back the end token", least, ids.index(end), answer)
    _must_be("The end token must end the answer", least + 1, len(ids), answer)
