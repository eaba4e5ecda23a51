"""POST /v1/completions, streamed: every variation adds up to the unstreamed answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT
from pytest_vllm.suite.facts import eventually, found_prompt, must_agree, tokens_of, varied

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Request

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions (stream)"),
    pytest.mark.source("OpenAI API reference, completions (stream)"),
]

VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]
BATCH = [PROMPT, "Hello", "Count from one"]
SEEDED: dict[str, Any] = {"temperature": 1, "seed": 7}

#: What a server may do otherwise when it streams; each is asked with and without.
VARIATIONS: dict[str, tuple[dict[str, Any], Any]] = {
    "plain": ({}, ()),
    "one token": ({"max_tokens": 1}, ()),
    "long": ({"max_tokens": 64}, ()),
    "default length": ({"max_tokens": ...}, ()),
    "echo": ({"echo": True}, ()),
    "echo and logprobs": ({"echo": True, "logprobs": 2}, ()),
    "echo only": ({"echo": True, "max_tokens": 0}, VLLM),
    "echo only with logprobs": ({"echo": True, "max_tokens": 0, "logprobs": 1}, VLLM),
    "logprobs 0": ({"logprobs": 0}, ()),
    "logprobs 1": ({"logprobs": 1}, ()),
    "logprobs 5": ({"logprobs": 5}, ()),
    "unicode": ({"prompt": "Say unicode", "logprobs": 2, "frequency_penalty": 0}, ()),
    "emoji prompt": ({"prompt": "😀👩\u200d👧 你好", "echo": True}, ()),
    "batch": ({"prompt": BATCH}, ()),
    "batch and logprobs": ({"prompt": BATCH, "logprobs": 2}, ()),
    "batch and echo": ({"prompt": BATCH, "echo": True}, ()),
    "batch of different ends": ({"prompt": BATCH, "stop": ["o", "."], "max_tokens": 24}, ()),
    "n": ({"n": 3, **SEEDED}, ()),
    "n and logprobs": ({"n": 2, "logprobs": 3, **SEEDED}, ()),
    "n and echo": ({"n": 2, "echo": True, **SEEDED}, ()),
    "n and stop": ({"n": 3, "stop": ["e", "a"], **SEEDED}, ()),
    "n and batch": ({"n": 2, "prompt": BATCH, **SEEDED}, ()),
    "n, batch and logprobs": ({"n": 2, "prompt": BATCH, "logprobs": 1, **SEEDED}, ()),
    "stop": ({"stop": ["e", " "], "max_tokens": 24}, ()),
    "stop and logprobs": ({"stop": ["e", "w"], "logprobs": 2}, ()),
    "stop and echo": ({"stop": ["e", "w"], "echo": True, "logprobs": 1}, ()),
    "user": ({"user": "somebody"}, ()),
    "token ids": ({"return_token_ids": True}, VLLM),
    "token ids and logprobs": ({"return_token_ids": True, "logprobs": 1}, VLLM),
    "token ids, n and batch": (
        {"return_token_ids": True, "n": 2, "prompt": BATCH, "logprobs": 1, **SEEDED},
        VLLM,
    ),
    "token ids and echo": ({"return_token_ids": True, "echo": True, "logprobs": 0}, VLLM),
    "tokens as ids": (
        {"return_tokens_as_token_ids": True, "logprobs": 2, "return_token_ids": True},
        VLLM,
    ),
    "ignore_eos": ({"ignore_eos": True, "max_tokens": 40}, VLLM),
    "min_tokens": ({"min_tokens": 12, "stop": ["e", "w"], "max_tokens": 20}, VLLM),
    "stop kept": ({"stop": ["e", "w"], "include_stop_str_in_output": True, "logprobs": 1}, VLLM),
    "special tokens": (
        {"ignore_eos": True, "skip_special_tokens": False, "max_tokens": 24, "logprobs": 1},
        VLLM,
    ),
    "special tokens without spaces": (
        {
            "ignore_eos": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
            "max_tokens": 24,
        },
        VLLM,
    ),
    "truncated prompt": ({"truncate_prompt_tokens": 3, "return_token_ids": True}, VLLM),
    "no special tokens": ({"add_special_tokens": False, "return_token_ids": True}, VLLM),
}

#: stream_options, and what the reader makes of each.
OPTIONS: dict[str, Any] = {
    "none": ...,
    "null": None,
    "usage": {"include_usage": True},
    "no usage": {"include_usage": False},
    "continuous": {"include_usage": True, "continuous_usage_stats": True},
    "continuous without usage": {"include_usage": False, "continuous_usage_stats": True},
    "not continuous": {"include_usage": True, "continuous_usage_stats": False},
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "n": {"n": 2, **SEEDED},
    "batch": {"prompt": BATCH},
    "logprobs and echo": {"logprobs": 1, "echo": True},
    "stop": {"stop": ["e", "w"]},
}


@pytest.mark.parametrize(
    "fields", [pytest.param(f, id=name, marks=m) for name, (f, m) in VARIATIONS.items()]
)
def test_a_stream_adds_up_to_the_unstreamed_answer(api: Api, fields: dict[str, Any]) -> None:
    api.both(varied(api).but(**fields))


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_stream_of_token_id_prompts_adds_up_to_the_unstreamed_answer(api: Api) -> None:
    ids = [tokens_of(api, text) for text in BATCH]
    request = varied(api, return_token_ids=True, logprobs=1)
    api.both(request.but(prompt=ids[0]))
    api.both(request.but(prompt=ids))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(value, id=name, marks=VLLM if "continuous" in name else ())
        for name, value in OPTIONS.items()
    ],
)
def test_usage_comes_as_the_stream_options_say(
    api: Api, options: Any, shape: dict[str, Any]
) -> None:
    request = varied(api).but(**shape)

    def check() -> None:
        answer = api.ask(request)
        whole = api.whole(request.but(stream=True, stream_options=options))
        _without_usage(whole.json, answer.json)
        rule = "The options of a stream must not change its answer"
        must_agree(rule, answer, whole, ignore=("usage",) if not whole.json["usage"] else ())

    eventually(check)


def _without_usage(whole: dict[str, Any], answer: dict[str, Any]) -> None:
    """What the unstreamed answer alone has (vLLM) is left out of the comparison."""
    for choice in [*whole["choices"], *answer["choices"]]:
        choice.pop("prompt_logprobs", None)
        choice.pop("prompt_token_ids", None)


def test_streams_of_different_prompts_do_not_mix(api: Api) -> None:
    requests = [varied(api, prompt, logprobs=1) for prompt in (*BATCH, "Once upon a time")]

    def check() -> None:
        wholes = api.together(*[_asks(api, request) for request in requests])
        for request, whole in zip(requests, wholes, strict=True):
            rule = "Streams at the same time must not change each other"
            must_agree(rule, api.ask(request), whole, ignore=("usage",))

    eventually(check)


def _asks(api: Api, request: Request) -> Any:
    return lambda: api.whole(request)


@pytest.mark.parametrize("stop", ["first", "middle", "across"])
def test_a_stream_never_shows_a_part_of_the_stop(api: Api, stop: str) -> None:
    prompt, known = found_prompt(api)
    word = {
        "first": known.tokens[0],
        "middle": known.tokens[2],
        "across": known.tokens[1][-1] + known.tokens[2] + known.tokens[3][:1],
    }[stop]
    expected = known.text[: known.text.find(word)]
    stream = api.stream(varied(api, prompt, stop=word))
    text = ""
    for choice in stream.choices:
        text += choice["text"]
        if not expected.startswith(text):
            raise CheckFailed(
                "A stream must not show a part of the stop string", expected=expected, seen=text
            ).reproduced_by(stream.curl)
    if text != expected:
        raise CheckFailed(
            "A stream must have all text before the stop string", expected=expected, seen=text
        ).reproduced_by(stream.curl)
