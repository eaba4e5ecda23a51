"""What a known-answer model must answer as an embedding model (`--convert embed`).

vLLM pools the last token and takes the final norm's output, scaled to length 1. By `geometry` that
is the one-hot of the last token, the constants, and, with memory, the mean over the context.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer import geometry as g
from pytest_vllm.models.known_answer.vocabulary import TOKENS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vllm.models.known_answer.predict import KnownAnswer

__all__ = ["TOLERANCE", "embedding"]

TOLERANCE = 4e-3
"""Largest honest error of a number, as a part of it (bfloat16 keeps 8 bits), plus 1e-5."""


def embedding(model: KnownAnswer, context: Sequence[int]) -> list[float]:
    """Return the embedding of these tokens. Raises IndexError for an empty context."""
    hidden = [0.0] * g.HIDDEN
    hidden[context[-1]] = 1.0
    for place, constant in enumerate(g.CONSTANTS):
        hidden[len(TOKENS) + place] = float(constant)
    if model.memory is not None:
        for token, count in Counter(context).items():
            hidden[g.MEAN + token] = count / len(context)
    length = math.sqrt(math.fsum(number * number for number in hidden))
    return [number / length for number in hidden]
