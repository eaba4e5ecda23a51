"""POST /v1/completions: `echo` gives the prompt back, with its logprobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT, completion
from pytest_vllm.suite.facts import eventually, tokens_of, varied
from pytest_vllm.suite.test_completions import PROMPTS

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions (echo)"),
]


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    found = difference(expected, seen, tolerance=0.05)
    if found is not None:
        where = f" ({found.where})" if found.where != "the value" else ""
        raise CheckFailed(f"{rule}{where}", expected=found.left, seen=found.right).reproduced_by(
            answer.curl
        )


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_an_echo_is_the_prompt_and_the_answer(api: Api, prompt: str) -> None:
    def check() -> None:
        plain = api.ask(varied(api, prompt, max_tokens=4))
        echo = api.both(varied(api, prompt, max_tokens=4, echo=True))
        expected = prompt + plain.json["choices"][0]["text"]
        seen = echo.json["choices"][0]["text"]
        _must_be("Echo must be the prompt and the answer", expected, seen, echo)
        _must_be("Echo must not be counted", plain.json["usage"], echo.json["usage"], echo)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_an_echo_of_a_batch_is_each_prompt(api: Api) -> None:
    prompts = [*PROMPTS.values()][:6]
    answer = api.both(varied(api).but(prompt=prompts, echo=True, max_tokens=2, n=1))
    for prompt, choice in zip(prompts, answer.json["choices"], strict=True):
        _must_be(
            "Echo must be the choice's own prompt", prompt, choice["text"][: len(prompt)], answer
        )


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_echo_has_the_logprobs_of_the_prompt_and_the_answer(api: Api, count: int) -> None:
    def check() -> None:
        plain = api.ask(completion(api.model, logprobs=count, max_tokens=4))
        echo = api.both(completion(api.model, logprobs=count, max_tokens=4, echo=True))
        said, [choice] = plain.json["choices"][0]["logprobs"], echo.json["choices"]
        for name in ("tokens", "token_logprobs", "top_logprobs"):
            seen = choice["logprobs"][name][-len(said["tokens"]) :]
            _must_be(f"Echo must end with the answer's {name}", said[name], seen, echo)
        prompt = choice["logprobs"]["token_logprobs"][: -len(said["tokens"])]
        other = api.ask(completion(api.model, max_tokens=1, prompt_logprobs=count))
        ids = tokens_of(api, PROMPT)
        entries = other.json["choices"][0]["prompt_logprobs"]
        expected = [e and e[str(i)]["logprob"] for i, e in zip(ids, entries, strict=True)]
        rule = "Echo and prompt_logprobs must give the prompt the same logprobs"
        _must_be(rule, expected, prompt, echo)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("count", [None, 0, 1, 5])
@pytest.mark.parametrize("as_ids", [False, True], ids=["text", "ids"])
@pytest.mark.source("lm-evaluation-harness scores prompts by it")
def test_an_echo_alone_is_the_beginning_of_an_echo(
    api: Api, count: int | None, as_ids: bool
) -> None:
    prompt = tokens_of(api, PROMPT) if as_ids else PROMPT
    request = completion(api.model, prompt, echo=True, logprobs=count)

    def check() -> None:
        alone, more = api.both(request.but(max_tokens=0)), api.ask(request.but(max_tokens=3))
        [only], [longer] = alone.json["choices"], more.json["choices"]
        text = longer["text"][: len(only["text"])]
        _must_be("Echo without an answer must be the prompt", text, only["text"], alone)
        if count is not None:
            size = len(tokens_of(api, PROMPT))
            expected = {name: entries[:size] for name, entries in longer["logprobs"].items()}
            rule = "Echo without an answer must have the prompt's logprobs"
            _must_be(rule, expected, only["logprobs"], alone)

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_an_echo_alone_counts_no_generated_tokens(api: Api) -> None:
    answer = api.ask(completion(api.model, echo=True, max_tokens=0))
    count = answer.json["usage"]["completion_tokens"]
    _must_be("max_tokens=0 must count no generated token", 0, count, answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_an_echo_has_the_prompt_with_token_ids_too(api: Api) -> None:
    answer = api.ask(completion(api.model, echo=True, max_tokens=2, return_token_ids=True))
    text = answer.json["choices"][0]["text"]
    rule = "Echo must begin with the prompt, with return_token_ids too"
    _must_be(rule, PROMPT, text[: len(PROMPT)], answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_an_echo_of_token_ids_is_the_same_as_of_their_text(api: Api) -> None:
    answer = api.ask(completion(api.model, tokens_of(api, PROMPT), echo=True, max_tokens=2))
    text = answer.json["choices"][0]["text"]
    rule = "Echo of token ids must be their text, without special tokens"
    _must_be(rule, PROMPT, text[: len(PROMPT)], answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /v1/completions (stream)")
def test_an_echoed_stream_has_no_token_ids_unasked(api: Api) -> None:
    stream = api.stream(completion(api.model, echo=True, max_tokens=1))
    seen = [choice for choice in stream.choices if choice.get("prompt_token_ids")]
    if seen:
        raise CheckFailed("prompt_token_ids must not come unasked", seen=seen[0]).reproduced_by(
            stream.curl
        )
