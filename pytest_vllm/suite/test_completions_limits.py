"""POST /v1/completions: how long an answer may be, and how much of the prompt is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.suite.ask_for import completion
from pytest_vllm.suite.facts import (
    context_length,
    eventually,
    found_prompt,
    must_agree,
    tokens_of,
    varied,
)

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions (max_tokens)"),
]

VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]

#: A longer context takes too long to fill on a CPU.
LONGEST = 4096


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    if seen != expected:
        raise CheckFailed(rule, expected=expected, seen=seen).reproduced_by(answer.curl)


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8])
def test_a_shorter_answer_is_the_beginning_of_a_longer_one(api: Api, limit: int) -> None:
    prompt, known = found_prompt(api)
    limit = min(limit, len(known.tokens))

    def check() -> None:
        answer = api.both(varied(api, prompt, max_tokens=limit))
        [choice] = answer.json["choices"]
        text = "".join(known.tokens[:limit])
        _must_be("A shorter answer must begin like a longer one", text, choice["text"], answer)
        _must_be("finish_reason must be length", "length", choice["finish_reason"], answer)
        count = answer.json["usage"]["completion_tokens"]
        _must_be(f"There must be max_tokens={limit} tokens", limit, count, answer)

    eventually(check)


@pytest.mark.parametrize("how", [{"max_tokens": ...}, {"max_tokens": None}], ids=["none", "null"])
def test_the_default_of_max_tokens_is_16(api: Api, how: dict[str, Any]) -> None:
    def check() -> None:
        rule = "max_tokens must be 16 where a request does not say"
        request = varied(api, logprobs=0)
        must_agree(rule, api.ask(request.but(max_tokens=16)), api.both(request.but(**how)))

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("how", [{"max_tokens": ...}, {"max_tokens": None}], ids=["none", "null"])
def test_without_max_tokens_and_end_there_are_16_tokens(api: Api, how: dict[str, Any]) -> None:
    answer = api.both(varied(api, ignore_eos=True).but(**how))
    count = answer.json["usage"]["completion_tokens"]
    _must_be("There must be 16 tokens by default", 16, count, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("limit", [1, 17, 64, 100, 300])
def test_ignore_eos_runs_to_max_tokens(api: Api, limit: int) -> None:
    context = context_length(api)
    if context is not None and limit + 64 > context:
        api.unsupported(f"a context of {context} tokens is too short")
    more: dict[str, Any] = {"ignore_eos": True, "return_token_ids": True, "logprobs": 0}
    answer = api.both(varied(api, max_tokens=limit, **more))
    [choice] = answer.json["choices"]
    _must_be("There must be max_tokens tokens", limit, len(choice["token_ids"]), answer)
    _must_be("finish_reason must be length", "length", choice["finish_reason"], answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("most", [8, 24])
def test_min_tokens_up_to_max_tokens_fills_it(api: Api, most: int) -> None:
    answer = api.both(varied(api, "Say unicode", min_tokens=most, max_tokens=most))
    count = answer.json["usage"]["completion_tokens"]
    _must_be("min_tokens = max_tokens must fix the length", most, count, answer)


@pytest.mark.alone  # fills a whole step of the engine: see test_prefix_cache
@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("room", [1, 3])
def test_a_prompt_and_its_answer_may_fill_the_context(api: Api, room: int) -> None:
    context = context_length(api)
    if context is None or context > LONGEST:
        api.unsupported(f"a context of {context} tokens takes too long to fill")
    word = tokens_of(api, "Hello", add_special_tokens=False)
    ids = (word * context)[: context - room]
    answer = api.both(completion(api.model, ids, max_tokens=room, ignore_eos=True))
    total = answer.json["usage"]["total_tokens"]
    _must_be("Prompt and answer must be allowed to fill max_model_len", context, total, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.source("vLLM docs, extra parameters (truncate_prompt_tokens)")
@pytest.mark.parametrize("side", [None, "left", "right"])
@pytest.mark.parametrize("kept", [1, 3, 100])
@pytest.mark.parametrize("as_text", [False, True], ids=["ids", "text"])
def test_a_prompt_is_truncated(api: Api, side: str | None, kept: int, as_text: bool) -> None:
    text = "one two three four five six seven"
    ids = tokens_of(api, text)
    more = {"truncation_side": side} if side else {}
    prompt = text if as_text else ids
    request = varied(api, prompt, truncate_prompt_tokens=kept, return_token_ids=True, **more)
    answer = api.both(request)
    seen = answer.json["choices"][0]["prompt_token_ids"]
    expected = ids[:kept] if side == "right" else ids[-kept:]
    if side is None and (seen == ids[:kept] or (as_text and len(seen) == min(kept, len(ids)))):
        return  # the tokenizer's own side, and its special tokens stay
    _must_be("truncate_prompt_tokens must keep this side of the prompt", expected, seen, answer)
    count = answer.json["usage"]["prompt_tokens"]
    _must_be("usage.prompt_tokens must count what is kept", len(expected), count, answer)
    rule = "A truncated prompt must be answered like the part that is kept"
    plain = varied(api, expected, return_token_ids=True)
    eventually(lambda: must_agree(rule, api.ask(plain), api.ask(request)))


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_prompt_of_token_ids_gets_no_special_tokens(api: Api) -> None:
    ids = tokens_of(api, "one two", add_special_tokens=False)
    answer = api.ask(varied(api, ids, return_token_ids=True, add_special_tokens=True))
    seen = answer.json["choices"][0]["prompt_token_ids"]
    _must_be("Token ids must be taken as they are", ids, seen, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.source("OpenAI API reference, completions (suffix)")
def test_a_suffix_is_refused_or_used(api: Api) -> None:
    answer = api.send(completion(api.model, suffix=" Sunday"))
    if answer.status == 200:
        plain = api.ask(completion(api.model)).json["usage"]["prompt_tokens"]
        counted = answer.json["usage"]["prompt_tokens"]
        rule = "A suffix that is taken must be part of the prompt"
        answer.check(lambda _: must(counted > plain, rule, expected=plain, seen=counted))
    else:
        api.refused(completion(api.model, suffix=" Sunday"), says=["suffix"])
