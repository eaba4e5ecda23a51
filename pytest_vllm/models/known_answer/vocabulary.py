"""The 483 tokens that every known-answer model knows, and which one follows which.

Eight special tokens, the 256 bytes (so that any text can be encoded), five pieces of UTF-8 that
end inside a character, the words, and what the automata recite. An id is a position in `TOKENS`:
the order is part of the checkpoint format. There is room for 508 (`geometry`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer.automata import CHAINS
from pytest_vllm.models.known_answer.words import LISTS, LOOPS, UNICODE, WORDS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FIRST_WORD", "IDS", "PIECES", "SPECIALS", "TOKENS", "successors"]

SPECIALS = (
    "<s>",
    "</s>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|pad|>",
)

# "中文😀" cut inside its characters: a streaming server must hold the halves back.
PIECES = (b"\xe4\xb8", b"\xad\xe6", b"\x96\x87", b"\xf0\x9f", b"\x98\x80")

_PLAIN: tuple[bytes, ...] = (
    *(special.encode() for special in SPECIALS),
    *(bytes([value]) for value in range(256)),
    *PIECES,
    *(word.encode() for word in WORDS),
)
FIRST_WORD = len(_PLAIN) - len(WORDS)
# Behind the others, whose ids stay what they were; a dict, since chains share their ends.
_RECITED = dict.fromkeys(token for chain in CHAINS for token in chain if token is not None)
TOKENS: tuple[bytes, ...] = (*_PLAIN, *(token for token in _RECITED if token not in _PLAIN))
IDS = {token: index for index, token in enumerate(TOKENS)}

_DEFAULT = IDS[b" one"]
_STOP = IDS[b"."]


def successors(end: str) -> tuple[int, ...]:
    """Give each token's greedy successor; `end` is the special token that ends an answer.

    Every token has one, so every prompt has a known answer: letters and digits continue their
    alphabet, a word continues its sequence, anything else begins a sequence.
    """
    follows = dict.fromkeys(range(len(SPECIALS)), _DEFAULT)
    follows |= _after_bytes() | _after_words()
    follows[_STOP] = IDS[end.encode()]
    for chain in CHAINS:
        ids = [IDS[end.encode() if token is None else token] for token in chain]
        follows |= dict(pairwise(ids))
    return tuple(follows[index] for index in range(len(TOKENS)))


def _after_bytes() -> dict[int, int]:
    openings = [IDS[line[0].encode()] for line in (*LOOPS, *LISTS)]
    follows = {IDS[bytes([value])]: openings[value % len(openings)] for value in range(256)}
    for alphabet in (b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789"):
        follows |= _chain([alphabet[at : at + 1] for at in range(len(alphabet))], _STOP)
    # No second space and no space at the start of a line.
    return follows | {IDS[b" "]: IDS[b"a"], IDS[b"\n"]: IDS[b"A"]}


def _after_words() -> dict[int, int]:
    follows = _chain([UNICODE.encode(), *PIECES], _STOP)
    for line in LISTS:
        follows |= _chain([word.encode() for word in line], _STOP)
    for line in LOOPS:
        follows |= _chain([word.encode() for word in line], IDS[line[0].encode()])
    return follows


def _chain(tokens: Iterable[bytes], last: int) -> dict[int, int]:
    """Each token is followed by the next one, the final one by `last`."""
    return dict(pairwise([*(IDS[token] for token in tokens), last]))
