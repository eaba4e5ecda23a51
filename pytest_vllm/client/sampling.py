"""What sampling parameters make of logits: the tokens that may come, and how likely each is.

The order is vLLM's (`v1/sample/sampler.py`, class Sampler): allowed tokens, bad words,
min_tokens, logit_bias, penalties, then temperature, min_p, top_k, top_p. Pure, in float64.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Sampling", "distribution", "processed"]

Logits = Mapping[int, float]


@dataclass(frozen=True)
class Sampling:
    """The parameters, with names and defaults of the API; `temperature` 0 is greedy.

    Attributes:
        bad_words: As token ids, since what a word is depends on the tokenizer.
        ends: The tokens that end an answer; `min_tokens` forbids them.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    allowed_token_ids: Collection[int] | None = None
    bad_words: Sequence[Sequence[int]] = ()
    min_tokens: int = 0
    ends: Collection[int] = ()

    @classmethod
    def of(cls, body: Mapping[str, Any], **more: Any) -> Sampling:
        """The parameters of a request's body; `bad_words` and `ends` come by `more`."""
        known = {k: body[k] for k in cls.__dataclass_fields__ if k in body and k != "bad_words"}
        bias = {int(token): value for token, value in known.pop("logit_bias", {}).items()}
        return cls(**{**known, "logit_bias": bias, **more})


def processed(
    logits: Logits, sampling: Sampling, prompt: Sequence[int] = (), output: Sequence[int] = ()
) -> dict[int, float]:
    """Return the logits of the tokens that are not forbidden, changed by bias and penalties.

    - logit_bias is added, clamped to ±100.
    - repetition: a positive logit is divided, another multiplied, for each token of the prompt
      or the output (CTRL, arXiv 1909.05858).
    - frequency and presence: `logit - frequency·count - presence·(count > 0)`, and only the
      output counts (OpenAI API reference).
    """
    values = dict(logits)
    if sampling.allowed_token_ids is not None:
        values = {t: v for t, v in values.items() if t in sampling.allowed_token_ids}
    forbidden = {word[-1] for word in sampling.bad_words if _comes_next(word, output)}
    if len(output) < sampling.min_tokens:
        forbidden |= set(sampling.ends)
    counts, known = Counter(output), {*prompt, *output}
    return {
        token: _penalised(
            value + max(-100.0, min(100.0, sampling.logit_bias.get(token, 0.0))),
            counts[token],
            sampling,
            repeated=token in known,
        )
        for token, value in values.items()
        if token not in forbidden
    }


def _comes_next(word: Sequence[int], output: Sequence[int]) -> bool:
    """Whether only the last token of a bad word is still missing."""
    before = list(word[:-1])
    return not before or list(output[-len(before) :]) == before


def _penalised(logit: float, count: int, sampling: Sampling, *, repeated: bool) -> float:
    if repeated:
        factor = sampling.repetition_penalty
        logit = logit / factor if logit > 0 else logit * factor
    return logit - sampling.frequency_penalty * count - sampling.presence_penalty * (count > 0)


def distribution(
    logits: Logits, sampling: Sampling, prompt: Sequence[int] = (), output: Sequence[int] = ()
) -> dict[int, float]:
    """Return the tokens that may be drawn, with their exact probabilities.

    - temperature divides; min_p keeps `p >= min_p · largest p`; top_k keeps the k largest, with
      all that are as large as the last.
    - top_p keeps the fewest of the largest whose sum reaches it: the token that crosses the
      bound is kept (nucleus sampling, arXiv 1904.09751), after top_k has rescaled.

    The temperature must not be 0: greedy is the largest of `processed`.
    """
    scaled = {
        token: value / sampling.temperature
        for token, value in processed(logits, sampling, prompt, output).items()
    }
    kept = _softmax(scaled)
    bound = sampling.min_p * max(kept.values())
    kept = _rescaled({token: p for token, p in kept.items() if p >= bound})
    if sampling.top_k > 0:
        last = sorted(kept.values(), reverse=True)[: sampling.top_k][-1]
        kept = _rescaled({token: p for token, p in kept.items() if p >= last})
    return _rescaled(_nucleus(kept, sampling.top_p))


def _nucleus(probabilities: Mapping[int, float], top_p: float) -> dict[int, float]:
    if top_p >= 1:
        return dict(probabilities)
    kept: dict[int, float] = {}
    for token in sorted(probabilities, key=lambda t: -probabilities[t]):
        if kept and math.fsum(kept.values()) >= top_p:
            break
        kept[token] = probabilities[token]
    return kept


def _softmax(logits: Logits) -> dict[int, float]:
    best = max(logits.values())
    return _rescaled({token: math.exp(value - best) for token, value in logits.items()})


def _rescaled(weights: Mapping[int, float]) -> dict[int, float]:
    total = math.fsum(weights.values())
    return {token: weight / total for token, weight in weights.items()}
