"""Rules for sampled answers of any model. Pure; each raises CheckFailed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_vllm.client.failure import CheckFailed, Text

__all__ = [
    "best_after_penalties",
    "must_differ",
    "must_equal",
    "texts_of",
    "widest_gap",
]

#: How much better (nats) another token must have been before the choice counts as wrong.
NEAR_TIE = 0.06


def texts_of(body: Mapping[str, Any]) -> list[str]:
    """The texts of all choices."""
    return [str(choice["text"]) for choice in body["choices"]]


def must_equal(rule: str, expected: object, seen: object) -> None:
    """Raise CheckFailed with this rule unless both are the same."""
    if expected != seen:
        raise CheckFailed(rule, expected=expected, seen=seen)


def must_differ(rule: str, values: Sequence[Any]) -> None:
    """Raise CheckFailed with this rule if all values are the same."""
    if len({repr(value) for value in values}) < 2:
        raise CheckFailed(rule, expected=Text("different ones"), seen=values[0])


def best_after_penalties(
    logprobs: Mapping[str, Any], *, presence: float = 0.0, frequency: float = 0.0
) -> None:
    """Each token was the best of its candidates, less the penalties for the tokens before it.

    `logprobs` are raw, as vLLM and OpenAI give them. Candidates that were not listed are worse
    than all listed ones, and a penalty does not raise them, so what is checked is sure.

    Args:
        logprobs: Of a completion; candidates by a name that is theirs alone.
        presence: The presence_penalty of the request.
        frequency: The frequency_penalty.
    """
    counts: Counter[str] = Counter()
    for at, (token, top) in enumerate(
        zip(logprobs["tokens"], logprobs["top_logprobs"], strict=True)
    ):
        after = {t: v - presence * (counts[t] > 0) - frequency * counts[t] for t, v in top.items()}
        best = max(after, key=lambda t: after[t])
        if after[token] < after[best] - NEAR_TIE:
            raise CheckFailed(
                f"Token {at} must be the best one after presence_penalty={presence:g} and"
                f" frequency_penalty={frequency:g}",
                expected=Text(f"{best!r} ({after[best]:.2f})"),
                seen=Text(f"{token!r} ({after[token]:.2f})"),
            )
        counts[token] += 1


def widest_gap(logprobs: Sequence[float], *, first: int = 1, last: int = 12) -> int:
    """After how many of the best the next is farthest behind: where a cut is safe."""
    ranked = sorted(logprobs, reverse=True)
    last = min(last, len(ranked) - 1)
    return max(range(first, last + 1), key=lambda k: ranked[k - 1] - ranked[k])
