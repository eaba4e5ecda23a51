"""Words that must not come, on any model: it is held to a few letters, so that they would."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.suite.facts import tokens_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vllm.client.api import Api
    from pytest_vllm.client.exchange import Request

__all__ = ["ban_letters"]

_LETTERS = "abcdefgh"
_NEVER = "\u2603"


def ban_letters(api: Api, request: Request) -> None:
    """What a greedy request says in letters must not be said where `bad_words` forbids it.

    Raises CheckFailed; Unsupported where letters are no tokens.
    """
    __tracebackhide__ = True
    letters = _tokens(api)
    request = request.but(
        max_tokens=8, ignore_eos=True, return_token_ids=True, allowed_token_ids=list(letters)
    )
    free = _said(api, request)
    first = letters[free[0]]
    _must_lack(api, request, [first], [free[:1]])
    _must_lack(api, request, [_NEVER, first], [free[:1]])
    names = [letters[a] + letters[b] for a, b in pairwise(free)]
    for name, pair in zip(names, pairwise(free), strict=True):
        if tokens_of(api, name, add_special_tokens=False) == list(pair):
            _must_lack(api, request, [_NEVER, name], [list(pair)])
            return


def _tokens(api: Api) -> dict[int, str]:
    ids = {letter: tokens_of(api, letter, add_special_tokens=False) for letter in _LETTERS}
    found = {tokens[0]: letter for letter, tokens in ids.items() if len(tokens) == 1}
    if len(found) < len(_LETTERS):
        api.unsupported("a letter is more than one token")
    return found


def _said(api: Api, request: Request) -> list[int]:
    return list(api.both(request).json["choices"][0]["token_ids"])


def _must_lack(
    api: Api, request: Request, words: Sequence[str], banned: Sequence[list[int]]
) -> None:
    __tracebackhide__ = True
    answer = api.both(request.but(bad_words=list(words)))
    said: Any = answer.json["choices"][0]["token_ids"]
    for tokens in banned:
        if any(said[at : at + len(tokens)] == tokens for at in range(len(said))):
            raise CheckFailed(
                f"bad_words={words} must not come", expected=tokens, seen=said
            ).reproduced_by(answer.curl)
