"""The two tables that decide every logit: what follows a token, and what the context adds.

`transitions` is T of `logits = T[last token]`. Its greedy choice leads by 1.0, far more than any
rounding; behind it 96 words stand 1/4 apart, and everything else is at the floor, so the twenty
best are never tied. `memory` is B, the part that the mean over the context adds.

All entries are multiples of 1/4 of at most 24, so bfloat16 and float16 hold them exactly. The
best logits stand close to zero on purpose: a server computes logits in the model's dtype, and
in bfloat16 a value between 2 and 4 is already rounded by up to 0.008.
"""

from __future__ import annotations

from functools import cache
from hashlib import shake_256

from pytest_vllm.models.known_answer.automata import after_thinking
from pytest_vllm.models.known_answer.vocabulary import FIRST_WORD, IDS, TOKENS, successors
from pytest_vllm.models.known_answer.words import WORDS

__all__ = ["BEST", "FLOOR", "RUNNERS_UP", "Table", "memory", "transitions"]

Table = tuple[tuple[float, ...], ...]

BEST = 1.0
RUNNERS_UP = 96
FLOOR = -24.0


@cache
def transitions(end: str) -> Table:
    """Return T: row i holds the next-token logits after token i; `end` ends an answer."""
    return tuple(_row(token, best) for token, best in enumerate(successors(end)))


def _row(token: int, best: int) -> tuple[float, ...]:
    row = [FLOOR] * len(TOKENS)
    row[best] = BEST
    for rank, word in enumerate(_runners_up(token, best)):
        row[word] = -rank / 4
    return tuple(row)


def _runners_up(token: int, best: int) -> list[int]:
    """Walk the words from the successor on, with a stride of the token's own."""
    start = best - FIRST_WORD if best >= FIRST_WORD else token
    stride = 1 + 67 * token % (len(WORDS) - 1)
    steps = range(1, RUNNERS_UP + 1)
    words = [FIRST_WORD + (start + step * stride) % len(WORDS) for step in steps]
    thought, second = map(IDS.__getitem__, after_thinking())
    return [second, *words[1:]] if token == thought else words


@cache
def memory() -> Table:
    """Return B: row j is what a context made of token j alone adds to each logit.

    Pseudo-random multiples of 1/4 from -1 to 1: no two rows are alike, so a context with one
    wrong token has other logits. SHAKE gives the same numbers on every Python.
    """
    size = len(TOKENS)
    return tuple(
        tuple(byte % 9 / 4 - 1 for byte in shake_256(b"memory %d" % token).digest(size))
        for token in range(size)
    )
