"""POST /v1/completions: what a request says, and what makes no difference to its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.api import Api
from pytest_vllm.client.checks import has_text
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.ask_for import PROMPT, completion
from pytest_vllm.suite.facts import (
    eventually,
    found_prompt,
    must_agree,
    text_of,
    tokens_of,
    varied,
)

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.core,
    pytest.mark.endpoint("POST /v1/completions"),
    pytest.mark.source("OpenAI API reference, completions"),
]

VLLM = [pytest.mark.optional, pytest.mark.requires("vllm")]

#: Texts that get lost on the way: through encodings, escapes, trimming and templates.
PROMPTS = {
    "plain": PROMPT,
    "one letter": "a",
    "leading spaces": "   three spaces",
    "trailing space": "three times ",
    "newlines": "first\n\nsecond\r\nthird\n",
    "tabs": "a\tb\t\tc",
    "quotes": "She said \"it's\" and 'yes' `now` \\ \\n",
    "html": "<b>bold</b> &amp; <script>alert(1)</script>",
    "braces": "{{ name }} {% if x %} ${HOME} %s {0}",
    "accents": "Grüße, señor, cafe\u0301",
    "chinese": "你好，世界",
    "emoji": "😀👩\u200d👩\u200d👧 🇫🇷",
    "right to left": "שלום עולם",
    "control": "bell\x07 escape\x1b[0m",
    "json": '{"prompt": ["a", null], "stream": true}',
}

#: Fields that OpenAI's reference or vLLM's documentation lets be null.
NULLABLE = {
    "echo": (),
    "frequency_penalty": (),
    "logit_bias": (),
    "logprobs": (),
    "presence_penalty": (),
    "seed": (),
    "stop": (),
    "stream": (),
    "stream_options": (),
    "suffix": (),
    "top_p": (),
    "user": (),
    "n": (),
    "top_k": VLLM,
    "min_p": VLLM,
    "repetition_penalty": VLLM,
    "stop_token_ids": VLLM,
    "truncate_prompt_tokens": VLLM,
    "allowed_token_ids": VLLM,
    "prompt_logprobs": VLLM,
    "response_format": VLLM,
    "structured_outputs": VLLM,
    "return_token_ids": VLLM,
    "return_tokens_as_token_ids": VLLM,
}

#: What each field is where it is not given: saying so must change nothing.
DEFAULTS: dict[str, tuple[dict[str, Any], Any]] = {
    "n": ({"n": 1}, ()),
    "echo": ({"echo": False}, ()),
    "stop": ({"stop": []}, ()),
    "stream": ({"stream": False}, ()),
    "logit_bias": ({"logit_bias": {}}, ()),
    "presence_penalty": ({"presence_penalty": 0}, ()),
    "top_p": ({"top_p": 1}, ()),
    "user": ({"user": "somebody"}, ()),
    "seed": ({"seed": 12345}, ()),
    "min_tokens": ({"min_tokens": 0}, VLLM),
    "stop_token_ids": ({"stop_token_ids": []}, VLLM),
    "ignore_eos": ({"ignore_eos": False}, VLLM),
    "include_stop_str_in_output": ({"include_stop_str_in_output": True}, VLLM),
    "skip_special_tokens": ({"skip_special_tokens": True}, VLLM),
    "spaces_between_special_tokens": ({"spaces_between_special_tokens": False}, VLLM),
    "add_special_tokens": ({"add_special_tokens": True}, VLLM),
    "truncate_prompt_tokens": ({"truncate_prompt_tokens": -1}, VLLM),
    "top_k": ({"top_k": 0}, VLLM),
    "min_p": ({"min_p": 0}, VLLM),
    "repetition_penalty": ({"repetition_penalty": 1}, VLLM),
    "bad_words": ({"bad_words": []}, VLLM),
    "return_token_ids": ({"return_token_ids": False}, VLLM),
    "priority": ({"priority": 0}, VLLM),
    "unknown field": ({"no_such_field": {"a": [1]}}, VLLM),
    "response_format": ({"response_format": {"type": "text"}}, VLLM),
}

#: What a request might leave behind for the next one.
LEAKY: dict[str, tuple[dict[str, Any], Any]] = {
    "stop": ({"stop": ["a", "e", "o", " "]}, ()),
    "logit_bias": ({"logit_bias": {"20": 100}}, ()),
    "max_tokens": ({"max_tokens": 1}, ()),
    "echo": ({"echo": True}, ()),
    "logprobs": ({"logprobs": 3}, ()),
    "temperature": ({"temperature": 2, "seed": 1}, ()),
    "presence_penalty": ({"presence_penalty": -2}, ()),
    "n": ({"n": 2, "temperature": 1}, ()),
    "stream": ({"stream": True, "stream_options": {"include_usage": True}}, ()),
    "allowed_token_ids": ({"allowed_token_ids": [20, 21]}, VLLM),
    "min_tokens": ({"min_tokens": 16, "ignore_eos": True}, VLLM),
    "token ids": ({"return_token_ids": True, "prompt_logprobs": 1}, VLLM),
    "no special tokens": ({"add_special_tokens": False, "skip_special_tokens": False}, VLLM),
    "truncate_prompt_tokens": ({"truncate_prompt_tokens": 2}, VLLM),
}


def _params(table: dict[str, tuple[dict[str, Any], Any]]) -> list[Any]:
    return [pytest.param(fields, id=name, marks=m) for name, (fields, m) in table.items()]


def _plain(api: Api) -> Answer:
    return api.once("plain completion", lambda: api.ask(varied(api)))


def _must_equal_plain(api: Api, rule: str, request: Request, **how: Any) -> None:
    __tracebackhide__ = True
    tries = iter((_plain, _again, _again))
    eventually(lambda: must_agree(rule, next(tries)(api), api.ask(request), **how))


def _again(api: Api) -> Answer:
    return api.ask(varied(api))


def test_a_prompt_is_completed(api: Api) -> None:
    api.ask(completion(api.model)).check(has_text)


def test_the_same_request_has_the_same_answer(api: Api) -> None:
    _must_equal_plain(api, "A greedy answer must be the same each time", varied(api))


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
def test_any_text_is_a_prompt(api: Api, prompt: str) -> None:
    api.both(completion(api.model, prompt, max_tokens=4, logprobs=1))


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_prompt_has_the_tokens_of_tokenize(api: Api, prompt: str) -> None:
    ids = tokens_of(api, prompt)
    answer = api.ask(completion(api.model, prompt, max_tokens=1, return_token_ids=True))
    _must_be("The prompt must have the tokens that /tokenize gives", ids, _ids(answer), answer)
    count = answer.json["usage"]["prompt_tokens"]
    _must_be("usage.prompt_tokens must be the count of /tokenize", len(ids), count, answer)


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_prompt_without_special_tokens_has_those_of_tokenize(api: Api, prompt: str) -> None:
    ids = tokens_of(api, prompt, add_special_tokens=False)
    more = {"add_special_tokens": False, "return_token_ids": True}
    answer = api.ask(completion(api.model, prompt, max_tokens=1, **more))
    _must_be("The prompt must have the tokens that /tokenize gives", ids, _ids(answer), answer)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.parametrize("name", ["plain", "chinese", "newlines"])
def test_a_prompt_of_token_ids_is_as_good_as_its_text(api: Api, name: str) -> None:
    prompt = PROMPTS[name]
    ids = tokens_of(api, prompt)

    def check() -> None:
        text = api.ask(varied(api, prompt, logprobs=2))
        rule = "A prompt of token ids must be answered like its text"
        must_agree(rule, text, api.both(varied(api, ids, logprobs=2)))

    eventually(check)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_the_token_ids_are_those_of_the_text(api: Api) -> None:
    prompt, known = found_prompt(api)
    answer = api.both(varied(api, prompt, return_token_ids=True))
    [choice] = answer.json["choices"]
    _must_be(
        "token_ids must be the tokens of the text (/detokenize)",
        choice["text"],
        text_of(api, choice["token_ids"][: len(known.ids)]),
        answer,
    )


@pytest.mark.parametrize(
    "field", [pytest.param(name, id=name, marks=m) for name, m in NULLABLE.items()]
)
def test_null_is_as_good_as_nothing(api: Api, field: str) -> None:
    if field == "frequency_penalty":
        request, plain = completion(api.model, frequency_penalty=None), completion(api.model)
        rule = "frequency_penalty: null must be as good as nothing"
        eventually(lambda: must_agree(rule, api.ask(plain), api.ask(request)))
        return
    rule = f"{field}: null must be as good as nothing"
    _must_equal_plain(api, rule, varied(api).but(**{field: None}))


@pytest.mark.parametrize("fields", _params(DEFAULTS))
def test_a_default_that_is_said_changes_nothing(api: Api, fields: dict[str, Any]) -> None:
    rule = f"{', '.join(fields)}: what holds anyhow must change nothing"
    _must_equal_plain(api, rule, varied(api, **fields))


@pytest.mark.parametrize("fields", _params(LEAKY))
def test_a_request_leaves_nothing_behind(api: Api, fields: dict[str, Any]) -> None:
    other = varied(api, **fields)
    if other.get("stream"):
        api.stream(other)
    else:
        api.ask(other)
    rule = f"A request with {', '.join(fields)} must not change the answer to the next one"
    _must_equal_plain(api, rule, varied(api))


def test_every_answer_has_its_own_id(api: Api) -> None:
    request = completion(api.model, max_tokens=1)
    calls = [lambda: api.ask(request), lambda: api.whole(request)] * 4
    answers = api.together(*calls)
    ids = [answer.json["id"] for answer in answers]
    if len({*ids}) < len(ids):
        failure = CheckFailed("Every answer must have an id of its own", seen=ids)
        raise failure.reproduced_by(answers[0].curl)


@pytest.mark.optional
@pytest.mark.requires("vllm")
def test_a_request_id_becomes_the_id_of_the_answer(api: Api) -> None:
    name = f"ours-{api.ask(varied(api, max_tokens=1)).json['id'][5:]}"
    answer = api.both(varied(api, max_tokens=1, request_id=name))
    _must_be("The id must be the request_id that was given", f"cmpl-{name}", _id(answer), answer)


def test_many_requests_use_one_connection(api: Api) -> None:
    import httpx

    ours = api.client
    limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
    with httpx.Client(
        base_url=ours.base_url, headers=ours.headers, timeout=ours.timeout, limits=limits
    ) as client:
        one = Api(api.server, client, api.once)
        for number in range(30):
            # Of different lengths: a wrong Content-Length shows in the answer that follows.
            request = completion(api.model, max_tokens=1 + number % 3, echo=number % 2 == 0)
            _ = one.whole(request) if number % 5 == 4 else one.ask(request)


@pytest.mark.optional
@pytest.mark.requires("vllm")
@pytest.mark.endpoint("POST /invocations")
@pytest.mark.source("vLLM docs, SageMaker routes")
@pytest.mark.parametrize("more", [{}, {"logprobs": 2}, {"echo": True}], ids=str)
def test_invocations_are_completions(api: Api, more: dict[str, Any]) -> None:
    request = varied(api, **more)
    other = Request("POST", "/invocations", request.body)
    rule = "/invocations must answer as /v1/completions does"

    def check() -> None:
        answer = api.send(other)
        _must_be("POST /invocations must be answered with 200", 200, answer.status, answer)
        must_agree(rule, api.ask(request), answer)

    eventually(check)


def _ids(answer: Answer) -> Any:
    return answer.json["choices"][0]["prompt_token_ids"]


def _id(answer: Answer) -> Any:
    return answer.json["id"]


def _must_be(rule: str, expected: Any, seen: Any, answer: Answer) -> None:
    __tracebackhide__ = True
    if seen != expected:
        raise CheckFailed(rule, expected=expected, seen=seen).reproduced_by(answer.curl)
