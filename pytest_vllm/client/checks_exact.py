"""Rules for answers that are known beforehand: text, token counts and logprobs, to the digit.

The prediction comes in as plain data, so that these checks know nothing of the models that can
be predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.checks_stream import StreamCheck, stream_text
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.checks import Check
    from pytest_vllm.client.exchange import Answer, Stream

__all__ = ["Expected", "Position", "has_logprobs", "is_answer", "is_streamed", "largest_error"]


@dataclass(frozen=True)
class Position:
    """One token of the answer: its text, and the logprob of every candidate by text."""

    token: str
    candidates: Mapping[str, float]


@dataclass(frozen=True)
class Expected:
    """What a correct server answers."""

    text: str
    finish_reason: str
    prompt_tokens: int
    positions: tuple[Position, ...]


def is_answer(expected: Expected, text_of: Callable[[Answer], str]) -> Check:
    """Text, `finish_reason` and token counts are the predicted ones."""

    def check(answer: Answer) -> None:
        _compare("text", expected.text, text_of(answer))
        choice = answer.json["choices"][0]
        _compare("finish_reason", expected.finish_reason, choice["finish_reason"])
        usage = answer.json["usage"]
        _compare("usage.prompt_tokens", expected.prompt_tokens, usage["prompt_tokens"])
        _compare("usage.completion_tokens", len(expected.positions), usage["completion_tokens"])

    return check


def is_streamed(expected: Expected) -> StreamCheck:
    """The pieces add up to the predicted text, with the predicted `finish_reason`."""

    def check(stream: Stream) -> None:
        _compare("streamed text", expected.text, stream_text(stream))
        reasons = [c["finish_reason"] for c in stream.choices if c["finish_reason"]]
        _compare("finish_reason", [expected.finish_reason], reasons)

    return check


def _compare(what: str, expected: object, seen: object) -> None:
    if seen != expected:
        raise CheckFailed(
            f"The {what} must be what the model's formula says", expected=expected, seen=seen
        )


def has_logprobs(expected: Expected, top: int, tolerance: float) -> Check:
    """Each logprob is the predicted one, for the chosen token and for the `top` candidates."""

    def check(answer: Answer) -> None:
        worst = largest_error(answer, expected, top)
        if worst.error > tolerance:
            raise CheckFailed(
                f"{worst.what} must be within {tolerance:g} of the model's formula",
                expected=round(worst.expected, 6),
                seen=worst.seen,
            )

    return check


@dataclass(frozen=True)
class Difference:
    """One logprob, predicted and served."""

    what: str
    expected: float
    seen: float

    @property
    def error(self) -> float:
        return abs(self.expected - self.seen)


def largest_error(answer: Answer, expected: Expected, top: int) -> Difference:
    """Return the served logprob that is farthest from its prediction.

    Raises CheckFailed where there is nothing to compare: lists of the wrong length, another token.
    """
    logprobs = answer.json["choices"][0]["logprobs"]
    conform(logprobs, shapes.COMPLETION_LOGPROBS, "choices[0].logprobs")
    _compare("list of tokens", [p.token for p in expected.positions], logprobs["tokens"])
    for name in ("token_logprobs", "top_logprobs"):
        _compare(f"length of {name}", len(expected.positions), len(logprobs[name]))
    return max(
        (
            difference
            for index, position in enumerate(expected.positions)
            for difference in _differences(index, position, logprobs, top)
        ),
        key=lambda difference: difference.error,
    )


def _differences(
    index: int, position: Position, logprobs: Mapping[str, Any], top: int
) -> list[Difference]:
    """Compare one position. Candidates by name, then by rank: a tie may be broken either way."""
    served = logprobs["top_logprobs"][index]
    if strangers := served.keys() - position.candidates.keys():
        raise CheckFailed("A candidate must be a token of the model", seen=sorted(strangers))
    if len(served) < top:
        raise CheckFailed(f"top_logprobs must have {top} candidates", seen=served)
    chosen = position.candidates[position.token]
    pairs = [(position.token, chosen, logprobs["token_logprobs"][index])]
    pairs += [(token, position.candidates[token], seen) for token, seen in served.items()]
    ranks = zip(_best(position.candidates, top), _best(served, top), strict=True)
    return [
        Difference(f"The logprob of {token!r} at position {index}", wanted, seen)
        for token, wanted, seen in pairs
    ] + [
        Difference(f"The logprob of rank {rank} at position {index}", wanted, seen)
        for rank, (wanted, seen) in enumerate(ranks, 1)
    ]


def _best(candidates: Mapping[str, float], count: int) -> list[float]:
    return sorted(candidates.values(), reverse=True)[:count]
