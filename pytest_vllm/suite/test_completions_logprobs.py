"""POST /v1/completions: logprobs of one request against those of others."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT, completion
from pytest_vllm.suite.facts import eventually, found_prompt, must_agree, tokens_of, varied

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions (logprobs)"),
]


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    found = difference(expected, seen, tolerance=0.05)
    if found is not None:
        raise CheckFailed(
            f"{rule} ({found.where})", expected=found.left, seen=found.right
        ).reproduced_by(answer.curl)


def _logprobs(answer: Answer) -> Any:
    return answer.json["choices"][0]["logprobs"]


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_logprobs_change_nothing_else(api: Api, count: int) -> None:
    rule = "Asking for logprobs must not change the answer"
    eventually(
        lambda: must_agree(
            rule, api.ask(varied(api)), api.ask(varied(api, logprobs=count)), ignore=("logprobs",)
        )
    )


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_fewer_logprobs_are_the_best_of_more(api: Api, count: int) -> None:
    def check() -> None:
        few = api.both(varied(api, logprobs=count))
        more = _logprobs(api.ask(varied(api, logprobs=5)))
        seen = _logprobs(few)
        for name in ("tokens", "token_logprobs", "text_offset"):
            _must_be(
                f"{name} must not depend on how many are asked for", more[name], seen[name], few
            )
        for top, larger in zip(seen["top_logprobs"], more["top_logprobs"], strict=True):
            known = {text: larger[text] for text in top if text in larger}
            rule = "Fewer top_logprobs must be the best of more"
            _must_be(rule, known, {text: top[text] for text in known}, few)
            best = sorted(larger.values(), reverse=True)[:count]
            _must_be(rule, best, sorted(top.values(), reverse=True)[: len(best)], few)

    if count and _hides(api):
        api.unsupported("candidates are parts of characters, which have no text of their own")
    eventually(check)


def _hides(api: Api) -> bool:
    top = _logprobs(api.ask(varied(api, logprobs=5)))["top_logprobs"]
    return any(len(entry) < 5 for entry in top)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("count", [1, 5])
def test_a_generated_text_has_the_logprobs_of_a_prompt(api: Api, count: int) -> None:
    def check() -> None:
        plain = api.ask(completion(api.model, logprobs=count, max_tokens=12, return_token_ids=True))
        [choice] = plain.json["choices"]
        ids = [*choice["prompt_token_ids"], *choice["token_ids"]]
        answer = api.ask(completion(api.model, ids, max_tokens=1, prompt_logprobs=count))
        entries = answer.json["choices"][0]["prompt_logprobs"][-len(choice["token_ids"]) :]
        seen = [e[str(i)]["logprob"] for i, e in zip(choice["token_ids"], entries, strict=True)]
        rule = "A text must have the same logprobs as an answer and as a prompt"
        _must_be(rule, choice["logprobs"]["token_logprobs"], seen, answer)
        ranks = [e[str(i)]["rank"] for i, e in zip(choice["token_ids"], entries, strict=True)]
        if max(ranks) > 3:
            raise CheckFailed(
                "A greedy token must be the best as a prompt, too", seen=ranks
            ).reproduced_by(answer.curl)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("count", [0, 1, 5])
def test_prompt_logprobs_are_those_of_the_prompts_tokens(api: Api, count: int) -> None:
    ids = tokens_of(api, PROMPT)
    answer = api.ask(completion(api.model, max_tokens=1, prompt_logprobs=count))
    entries = answer.json["choices"][0]["prompt_logprobs"]
    seen = [str(i) in entry for i, entry in zip(ids[1:], entries[1:], strict=True)]
    _must_be("Each entry must have the prompt's token", [True] * (len(ids) - 1), seen, answer)
    more = api.ask(completion(api.model, ids, max_tokens=1, prompt_logprobs=count))
    rule = "prompt_logprobs of token ids must be those of their text"
    eventually(lambda: _must_be(rule, entries, more.json["choices"][0]["prompt_logprobs"], more))


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_prompt_logprobs_do_not_depend_on_what_was_asked_before(api: Api) -> None:
    # A prefix cache that is used for them would leave the beginning of the prompt without.
    prompt = "one two three four five six seven eight nine ten eleven twelve thirteen"
    api.ask(completion(api.model, prompt, max_tokens=1))
    cached = api.ask(completion(api.model, prompt, max_tokens=1, prompt_logprobs=1))
    again = api.ask(completion(api.model, prompt, max_tokens=1, prompt_logprobs=1))
    rule = "prompt_logprobs must be the same each time"
    must_agree(rule, cached, again)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("fields", [{}, {"n": 2}], ids=["alone", "n"])
def test_prompt_logprobs_are_given_for_each_prompt(api: Api, fields: dict[str, Any]) -> None:
    prompts = [PROMPT, "Hello"]
    more = {"prompt_logprobs": 1, "max_tokens": 1, "temperature": 1, "seed": 1, **fields}
    answer = api.ask(completion(api.model).but(prompt=prompts, **more))
    counts = [len(choice["prompt_logprobs"]) for choice in answer.json["choices"]]
    n = fields.get("n", 1)
    expected = [len(tokens_of(api, prompt)) for prompt in prompts for _ in range(n)]
    _must_be("Each choice must have its own prompt's logprobs", expected, counts, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("count", [0, 2])
def test_tokens_are_given_as_their_ids(api: Api, count: int) -> None:
    fields: dict[str, Any] = {
        "return_tokens_as_token_ids": True,
        "return_token_ids": True,
        "logprobs": count,
    }

    def check() -> None:
        plain = _logprobs(api.ask(varied(api, logprobs=count)))
        answer = api.both(varied(api, **fields))
        seen = _logprobs(answer)
        rule = "Tokens as ids must have the same logprobs"
        _must_be(rule, plain["token_logprobs"], seen["token_logprobs"], answer)
        keys = [key for top in seen["top_logprobs"] for key in top]
        wrong = [key for key in keys if not key.removeprefix("token_id:").isdigit()]
        _must_be("All candidates must be token_id:N", [], wrong, answer)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.source("vllm#19368")
def test_offsets_are_those_of_the_text_with_tokens_as_ids(api: Api) -> None:
    prompt, known = found_prompt(api)
    request = varied(api, prompt, return_tokens_as_token_ids=True, logprobs=0)
    answer = api.ask(request)
    begins = [0, *accumulate(len(token) for token in known.tokens)]
    seen = _logprobs(answer)["text_offset"][: len(known.tokens)]
    rule = "text_offset must count the characters of the text"
    _must_be(rule, begins[: len(known.tokens)], seen, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_logprobs_of_asked_tokens_are_those(api: Api) -> None:
    if not api.dialect.since(0, 29):
        api.unsupported("logprob_token_ids came with vLLM 0.29")
    ids = tokens_of(api, "Hello", add_special_tokens=False)[:3]
    fields: dict[str, Any] = {
        "logprobs": 1,
        "logprob_token_ids": ids,
        "return_tokens_as_token_ids": True,
    }
    answer = api.both(varied(api, max_tokens=3, return_token_ids=True, **fields))
    [choice] = answer.json["choices"]
    for token, top in zip(choice["token_ids"], choice["logprobs"]["top_logprobs"], strict=True):
        expected = sorted(f"token_id:{i}" for i in {token, *ids})
        rule = "logprob_token_ids must give these tokens and the chosen one"
        _must_be(rule, expected, sorted(top), answer)
