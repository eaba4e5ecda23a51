"""POST /tokenize and /detokenize. What every answer must be is in the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.client.difference import difference
from pytest_vllm.client.exchange import Request
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import must
from pytest_vllm.models.known_answer import predictor
from pytest_vllm.models.known_answer.files import token_strings
from pytest_vllm.models.known_answer.vocabulary import IDS, PIECES, TOKENS
from pytest_vllm.suite.ask_for import chat, completion

if TYPE_CHECKING:
    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Answer

pytestmark = [
    pytest.mark.optional,
    pytest.mark.requires("vllm"),
    pytest.mark.endpoint("POST /tokenize"),
    pytest.mark.source("vLLM docs (tokenizer API)"),
]

#: Texts that a tokenizer may stumble over, by what is special about them.
TEXTS = {
    "words": "one two three Monday",
    "capitals": "Hello World HELLO",
    "digits": "1234567890 3.14159 1,000,000",
    "punctuation": "(a) [b] {c} <d> \"e\" 'f' `g` #h @i $j %k ^l &m *n -o _p =q +r |s \\t /u ~v ?!",
    "spaces": "a  b   c    d",
    "spaces around": "  a  ",
    "tabs": "\ta\t\tb\t",
    "newlines": "a\nb\n\nc\r\nd\n",
    "accents": "Grüße, déjà vu, naïve, São Tomé, Łódź",
    "combining": "e\u0301 a\u0308 n\u0303 \u1100\u1161",
    "Greek and Cyrillic": "Καλημέρα κόσμε, привет мир",
    "Chinese": "你好，世界。中文字符",
    "Japanese": "こんにちは世界、カタカナ",
    "Korean": "안녕하세요 세계",
    "Arabic": "مرحبا بالعالم",
    "Hebrew": "שלום עולם",
    "Hindi": "नमस्ते दुनिया",
    "Thai": "สวัสดีชาวโลก",
    "emoji": "😀 🎉 👍🏽",
    "emoji of several": "👩‍👩‍👧‍👦 🇫🇷 🏳️‍🌈",
    "beyond the plane": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎",
    "marks of direction": "a\u200eb\u200fc\u202ed\u202c",
    "zero width": "a\u200bb\u200dc\ufeffd",
    "a replacement character": "a\ufffdb",
    "null": "a\x00b",
    "control": "a\x01\x07\x1b[0mb",
    "code": "def f(x):\n    return {'a': [x, 1e-3]}  # ok\n",
    "JSON": '{"a": "\\u00e9\\n", "b": [1, null]}',
    "long": "one two three 你好 😀 " * 40,
}


def _tokenize(api: Api, text: str | None = None, **more: Any) -> Answer:
    body = {"model": api.model, **({} if text is None else {"prompt": text}), **more}
    return api.ask(Request("POST", "/tokenize", body))


def _detokenize(api: Api, tokens: list[int]) -> str:
    body = {"model": api.model, "tokens": tokens}
    return str(api.ask(Request("POST", "/detokenize", body)).json["prompt"])


def _plain(api: Api, text: str, **more: Any) -> list[int]:
    return list(_tokenize(api, text, add_special_tokens=False, **more).json["tokens"])


@pytest.mark.endpoint("POST /detokenize")
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_survives_the_way_to_tokens_and_back(api: Api, kind: str) -> None:
    text = TEXTS[kind]
    tokens = _plain(api, text)
    back = _detokenize(api, tokens)
    if "\ufffd" in back and "\ufffd" not in text:
        # A small vocabulary may have no bytes: then the loss must be the tokenizer's own.
        api.note("the tokenizer cannot write this text")
    # Some tokenizers begin every text with a space.
    if back.removeprefix(" ") != text.removeprefix(" "):
        _is_lossy(api, text, tokens, back)


def _is_lossy(api: Api, text: str, tokens: list[int], back: str) -> None:
    """A tokenizer that changes texts must change this one always alike, and once only.

    Raises CheckFailed where the text is plain, or the second time loses more.
    """
    again = _plain(api, back)
    plain = text.isascii() and text.isprintable() and "  " not in text
    if plain or _detokenize(api, again) != back:
        found = difference(text, back)
        assert found is not None
        raise CheckFailed(
            "The tokens of a text must stand for that text", expected=found.left, seen=found.right
        )
    api.note(f"{len(tokens)} tokens, of another text")


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.requires("known-answer")
@pytest.mark.parametrize("special", [True, False], ids=["with <s>", "without <s>"])
def test_tokens_are_the_predicted_ones(api: Api, kind: str, special: bool) -> None:
    expected = predictor(api.model).encode(TEXTS[kind], add_special_tokens=special)
    more: dict[str, Any] = {} if special else {"add_special_tokens": False}
    answer = _tokenize(api, TEXTS[kind], **more, return_token_strs=True)

    def check(answer: Answer) -> None:
        seen = answer.json["tokens"]
        found = difference(expected, seen)
        if found is not None:
            raise CheckFailed(
                f"The tokens must be the predicted ones; tokens{found.where} differs",
                expected=found.left,
                seen=found.right,
            )
        words = [token_strings()[token] for token in expected]
        must(
            answer.json["token_strs"] == words,
            "token_strs must be the words of the vocabulary",
            expected=words,
            seen=answer.json["token_strs"],
        )

    answer.check(check)


@pytest.mark.endpoint("POST /detokenize")
@pytest.mark.requires("known-answer")
def test_each_token_stands_for_the_predicted_text(api: Api) -> None:
    model = predictor(api.model)
    ids = [*range(0, len(TOKENS), 37), *(IDS[piece] for piece in PIECES)]
    for tokens in ([i] for i in ids):
        seen = _detokenize(api, tokens)
        expected = model.decode(tokens, skip_special_tokens=False)
        must(
            seen == expected,
            f"The text of token {tokens[0]} must be the predicted one",
            expected=expected,
            seen=seen,
        )


@pytest.mark.parametrize("kind", ["words", "Chinese", "emoji", "newlines"])
def test_tokens_stay_the_same(api: Api, kind: str) -> None:
    first, *others = api.together(*[lambda: _tokenize(api, TEXTS[kind]).json] * 4)
    must(all(other == first for other in others), "A text must always have the same tokens")


def test_special_tokens_stand_only_at_the_ends(api: Api) -> None:
    """With and without special tokens differ by what is put before and after the text."""
    default = _tokenize(api, TEXTS["words"]).json["tokens"]
    with_them = _tokenize(api, TEXTS["words"], add_special_tokens=True).json["tokens"]
    without = _plain(api, TEXTS["words"])
    must(
        default == with_them, "Special tokens must be the default", expected=with_them, seen=default
    )
    starts = range(len(with_them) - len(without) + 1)
    inside = any(with_them[at : at + len(without)] == without for at in starts)
    must(inside, "The text's own tokens must stay together", expected=without, seen=with_them)


def test_the_empty_text_has_no_tokens_of_its_own(api: Api) -> None:
    must(
        _plain(api, "") == [],
        "The empty text must have no tokens",
        expected=[],
        seen=_plain(api, ""),
    )


def test_a_longer_text_has_more_tokens(api: Api) -> None:
    counts = [_tokenize(api, "one two three " * times).json["count"] for times in (1, 2, 4, 400)]
    must(counts == sorted(set(counts)), "A longer text must have more tokens", seen=counts)
    grown = (counts[2] - counts[1]) * 198
    # 400 times is 4 times and 396 more, each as long as those between 2 and 4.
    must(
        abs(counts[3] - counts[2] - grown) <= counts[0] + 2,
        "Tokens must not be cut: no limit is asked for",
        expected=counts[2] + grown,
        seen=counts[3],
    )


def test_the_length_is_that_of_the_list_of_models(api: Api) -> None:
    models = api.ask(Request("GET", "/v1/models")).json["data"]
    expected = next(m.get("max_model_len") for m in models if m["id"] == api.model)
    seen = _tokenize(api, "x").json["max_model_len"]
    must(
        seen == expected,
        "max_model_len must be that of GET /v1/models",
        expected=expected,
        seen=seen,
    )


def test_token_strings_are_those_of_the_tokens(api: Api) -> None:
    """A token has one string, wherever it stands."""
    text = "one two one two"
    answer = _tokenize(api, text, return_token_strs=True).json
    pairs: dict[int, str] = {}
    for token, word in zip(answer["tokens"], answer["token_strs"], strict=True):
        must(pairs.setdefault(token, word) == word, "A token must have one string", seen=answer)
    must(len(set(pairs.values())) == len(pairs), "Strings must tell tokens apart", seen=answer)
    must(
        answer["tokens"] == _tokenize(api, text).json["tokens"],
        "return_token_strs must not change the tokens",
        seen=answer["tokens"],
    )


# --- and the model ---------------------------------------------------------------------------


@pytest.mark.requires("generation")
@pytest.mark.parametrize("kind", ["words", "Chinese", "emoji", "newlines", "spaces"])
def test_usage_counts_the_tokens(api: Api, kind: str) -> None:
    count = _tokenize(api, TEXTS[kind]).json["count"]
    usage = api.ask(completion(api.model, TEXTS[kind], max_tokens=1)).json["usage"]
    must(
        usage["prompt_tokens"] == count,
        "usage.prompt_tokens must be what /tokenize counts",
        expected=count,
        seen=usage["prompt_tokens"],
    )


@pytest.mark.requires("generation")
def test_tokens_are_a_prompt(api: Api) -> None:
    tokens = _tokenize(api, TEXTS["words"]).json["tokens"]
    for last in (False, True):
        by_text = api.ask(completion(api.model, TEXTS["words"], max_tokens=8)).json
        by_tokens = api.ask(completion(api.model, tokens, max_tokens=8)).json
        if difference(by_text["choices"], by_tokens["choices"], tolerance=0.05) is None:
            break
        must(
            not last,
            "The tokens of a text must be answered as the text is",
            expected=by_text["choices"][0]["text"],
            seen=by_tokens["choices"][0]["text"],
        )
    must(by_text["usage"] == by_tokens["usage"], "… and counted alike", seen=by_tokens["usage"])


@pytest.mark.chat_model
@pytest.mark.requires("generation")
@pytest.mark.endpoint("POST /tokenize (messages)")
@pytest.mark.parametrize("content", ["What is the capital of France?", "你好 😀", ""])
def test_usage_counts_the_tokens_of_a_chat(api: Api, content: str) -> None:
    request = chat(api.model, content, max_tokens=1)
    usage = api.ask(request).json["usage"]
    messages = (request.body or {})["messages"]
    count = _tokenize(api, messages=messages).json["count"]
    must(
        usage["prompt_tokens"] == count,
        "usage.prompt_tokens must be what /tokenize counts",
        expected=count,
        seen=usage["prompt_tokens"],
    )


@pytest.mark.chat_model
@pytest.mark.requires("generation")
@pytest.mark.endpoint("POST /tokenize (messages)")
def test_the_generation_prompt_comes_last(api: Api) -> None:
    api.ask(chat(api.model, "Hello", max_tokens=1))
    messages = [{"role": "user", "content": "Hello"}]
    default = _tokenize(api, messages=messages).json["tokens"]
    with_it = _tokenize(api, messages=messages, add_generation_prompt=True).json["tokens"]
    without = _tokenize(api, messages=messages, add_generation_prompt=False).json["tokens"]
    must(default == with_it, "add_generation_prompt must be the default", seen=default)
    must(
        with_it[: len(without)] == without,
        "Without add_generation_prompt only the end must be missing",
        expected=with_it,
        seen=without,
    )


@pytest.mark.requires("known-answer/chat")
@pytest.mark.endpoint("POST /tokenize (messages)")
def test_the_tokens_of_a_chat_are_the_predicted_ones(api: Api) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello 你好"},
    ]
    expected = predictor(api.model).chat_prompt_ids(messages)
    seen = _tokenize(api, messages=messages).json["tokens"]
    must(seen == expected, "The tokens must be the predicted ones", expected=expected, seen=seen)


# --- refusals --------------------------------------------------------------------------------

#: What is wrong with a text to be tokenized; `...` leaves it out.
BAD_TEXTS: dict[str, dict[str, Any]] = {
    "no prompt": {},
    "prompt=null": {"prompt": None},
    "prompt=5": {"prompt": 5},
    "prompt=list": {"prompt": ["a"]},
    "prompt=token ids": {"prompt": [1, 2]},
    "add_special_tokens=maybe": {"prompt": "x", "add_special_tokens": "maybe"},
    "return_token_strs=maybe": {"prompt": "x", "return_token_strs": "maybe"},
    "messages=x": {"messages": "x"},
    "model=5": {"model": 5, "prompt": "x"},
}

BAD_TOKENS: dict[str, Any] = {
    "no tokens": ...,
    "null": None,
    "a string": "x",
    "a list of strings": ["x"],
    "a number": 5,
    "fractions": [1.5],
    "nulls": [None],
    "a list of lists": [[1]],
    "negative": [-1],
    "2**32": [2**32],
    "2**63": [2**63],
    "2**70": [2**70],
}


@pytest.mark.parametrize("bad", BAD_TEXTS)
def test_a_text_is_refused_for(api: Api, bad: str) -> None:
    api.refused(Request("POST", "/tokenize", {"model": api.model, **BAD_TEXTS[bad]}))


@pytest.mark.endpoint("POST /detokenize")
@pytest.mark.source("vLLM overflow_error_returns_bad_request")
@pytest.mark.parametrize("bad", BAD_TOKENS)
def test_tokens_are_refused_for(api: Api, bad: str) -> None:
    request = Request("POST", "/detokenize", {"model": api.model})
    api.refused(request.but(tokens=BAD_TOKENS[bad]))


@pytest.mark.endpoint("POST /detokenize")
@pytest.mark.parametrize("token", [999_999_999, 2**31 - 1])
def test_tokens_outside_of_the_vocabulary_are_refused(api: Api, token: int) -> None:
    api.refused(Request("POST", "/detokenize", {"model": api.model, "tokens": [token]}))


@pytest.mark.endpoint("POST /detokenize")
def test_no_tokens_are_no_text(api: Api) -> None:
    must(_detokenize(api, []) == "", "No tokens must be no text")
