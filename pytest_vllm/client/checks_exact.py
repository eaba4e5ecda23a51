"""Rules for answers that are known beforehand: text, token counts and logprobs, to the digit.

The prediction comes in as plain data, so that these checks know nothing of the models that can
be predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.checks_stream import StreamCheck, stream_text
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.checks import Check
    from pytest_vllm.client.exchange import Answer, Stream

__all__ = [
    "Expected",
    "Position",
    "generates",
    "has_choices",
    "has_logprobs",
    "has_prompt_logprobs",
    "has_prompt_rows",
    "is_answer",
    "is_streamed",
    "largest_error",
]


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
        limit = tolerance * _scale(worst.expected)
        if worst.error > limit:
            raise CheckFailed(
                f"{worst.what} must be within {limit:.3g} of the model's formula",
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


def generates(
    text: str, finish_reason: str, stop_reason: object, token_ids: Sequence[int]
) -> Check:
    """One completion says exactly this; `stop_reason` and ids only where the server gives them."""

    def check(answer: Answer) -> None:
        choice = answer.json["choices"][0]
        _compare("text", text, choice["text"])
        _compare("finish_reason", finish_reason, choice["finish_reason"])
        if answer.request.get("return_token_ids"):
            _compare("list of token ids", list(token_ids), choice.get("token_ids"))
            _compare("stop_reason", stop_reason, choice.get("stop_reason"))
        _compare(
            "usage.completion_tokens", len(token_ids), answer.json["usage"]["completion_tokens"]
        )

    return check


def has_choices(expected: Sequence[tuple[str, str]]) -> Check:
    """The choices are these texts, with these finish_reasons, in order."""

    def check(answer: Answer) -> None:
        seen = [(choice["text"], choice["finish_reason"]) for choice in answer.json["choices"]]
        _compare("choices", list(expected), seen)

    return check


def has_prompt_logprobs(
    candidates: Sequence[Mapping[str, float]], tokens: Sequence[str], top: int, tolerance: float
) -> Check:
    """The echoed prompt has its tokens' logprobs and `top` candidates, by the model's formula.

    Args:
        candidates: For each token of the prompt but the first, the logprobs before it, by text.
        tokens: The prompt's tokens.
        top: How many candidates were asked for.
        tolerance: Largest honest error, in nats.
    """

    def check(answer: Answer) -> None:
        logprobs = answer.json["choices"][0]["logprobs"]
        own, tops = logprobs["token_logprobs"], logprobs["top_logprobs"]
        _compare("list of the prompt's tokens", list(tokens), logprobs["tokens"][: len(tokens)])
        _compare("logprob of the first token", None, own[0])
        for at, (token, known) in enumerate(zip(tokens[1:], candidates, strict=True), 1):
            wanted = sorted(known.values(), reverse=True)[:top]
            _near(f"logprob of prompt token {at} ({token!r})", known[token], own[at], tolerance)
            if len(tops[at]) < top:
                raise CheckFailed(f"Prompt token {at} must have {top} candidates", seen=tops[at])
            for text, seen in tops[at].items():
                _near(f"logprob of {text!r} for prompt token {at}", known[text], seen, tolerance)
            best = sorted(tops[at].values(), reverse=True)[:top]
            for rank, (a, b) in enumerate(zip(wanted, best, strict=True), 1):
                _near(f"logprob of rank {rank} for prompt token {at}", a, b, tolerance)

    return check


def has_prompt_rows(ids: Sequence[int], rows: Sequence[Sequence[float]], tolerance: float) -> Check:
    """`prompt_logprobs` (vLLM): null, then for each token itself and the best, with their ranks.

    Args:
        ids: The prompt.
        rows: Before each token but the first, the logprob of every token, by id.
        tolerance: Largest honest error, in nats.
    """

    def check(answer: Answer) -> None:
        asked = answer.request.get("prompt_logprobs")
        served = answer.json["choices"][0].get("prompt_logprobs")
        if not isinstance(served, list) or len(served) != len(ids) or served[0] is not None:
            raise CheckFailed(
                "prompt_logprobs must be null and one entry for each further token", seen=served
            )
        for at, (token, row) in enumerate(zip(ids[1:], rows, strict=True), 1):
            entry = served[at]
            if str(token) not in entry or not asked <= len(entry) <= asked + 1:
                raise CheckFailed(
                    f"prompt_logprobs[{at}] must have token {token} and the {asked} best",
                    seen=entry,
                )
            for text, seen in entry.items():
                what = f"logprob of token {text} in prompt_logprobs[{at}]"
                _near(what, row[int(text)], seen["logprob"], tolerance)
                limit = 2 * tolerance * _scale(seen["logprob"])  # both tokens may be rounded
                better = sum(other > seen["logprob"] + limit for other in row)
                worse = sum(other >= seen["logprob"] - limit for other in row)
                if not better + 1 <= seen["rank"] <= max(worse, better + 1):
                    raise CheckFailed(
                        f"The rank of token {text} in prompt_logprobs[{at}] must be its place",
                        expected=better + 1,
                        seen=seen["rank"],
                    )

    return check


def _near(what: str, expected: float, seen: Any, tolerance: float) -> None:
    limit = tolerance * _scale(expected)
    if not isinstance(seen, (int, float)) or abs(expected - seen) > limit:
        raise CheckFailed(
            f"The {what} must be within {limit:.3g} of the model's formula",
            expected=round(expected, 6),
            seen=seen,
        )


def _scale(logprob: float) -> float:
    """Tolerances are for likely tokens; a bfloat16 logit of -24 is itself rounded by 0.06."""
    return 1.0 if abs(logprob) < 5 else abs(logprob) / 2
