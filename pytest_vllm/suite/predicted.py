"""What a known-answer model must answer, in the words of the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vllm.client.checks_exact import Expected, Position
from pytest_vllm.client.sampling import Sampling, processed
from pytest_vllm.models.known_answer import (
    SAFE_MARGIN,
    TOLERANCE,
    KnownAnswer,
    Step,
    predictor,
)

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Request
    from pytest_vllm.servers.server import Server

__all__ = [
    "Foretold",
    "candidates",
    "expected_answer",
    "expected_chat_answer",
    "foretell",
    "prompt_ids",
    "shortened",
    "tolerance",
]

_ALL = 1_000_000  # candidates: as many as the vocabulary has


def expected_answer(name: str, prompt: str | Sequence[int], max_tokens: int) -> Expected:
    """Predict a greedy completion of a text or of token ids."""
    model = predictor(name)
    ids = model.encode(prompt) if isinstance(prompt, str) else prompt
    return _expected(model, ids, max_tokens)


def expected_chat_answer(name: str, question: str, max_tokens: int) -> Expected:
    """Predict the greedy answer to a chat of one user message."""
    model = predictor(name)
    ids = model.chat_prompt_ids([{"role": "user", "content": question}])
    return _expected(model, ids, max_tokens)


def _expected(model: KnownAnswer, ids: Sequence[int], max_tokens: int) -> Expected:
    answer = model.answer(ids, max_tokens, top=_ALL)
    # Else the test would insist on a text that an honest rounding may change.
    assert answer.certain, f"a prompt without a certain answer on {model.name}"
    positions = tuple(_position(model, step) for step in answer.steps)
    return Expected(answer.text, answer.finish_reason, len(ids), positions)


def _position(model: KnownAnswer, step: Step) -> Position:
    """Name candidates by their text; pieces of characters have none of their own."""
    texts = {i: model.decode([i], skip_special_tokens=False) for i, _ in step.top}
    unique = {text for text, count in Counter(texts.values()).items() if count == 1}
    return Position(step.text, {texts[i]: lp for i, lp in step.top if texts[i] in unique})


def tolerance(server: Server) -> float:
    """How far a logprob may be off, by the dtype that was asked for.

    A model without memory is exact in every dtype: each logit is a multiple of 1/4. Without a
    dtype the checkpoint's own is served, which is bfloat16; of a server that somebody else
    started nothing is known. Both get the widest tolerance.
    """
    if predictor(server.model).memory is None:
        return min(TOLERANCE.values())
    return TOLERANCE.get(server.spec.dtype or "", max(TOLERANCE.values()))


@dataclass(frozen=True)
class Foretold:
    """The greedy answer to a completion request, with all its parameters."""

    text: str
    finish_reason: str
    stop_reason: str | int | None
    token_ids: tuple[int, ...]


class NearTie(AssertionError):
    """Nobody can insist on the token at this place of the answer."""

    def __init__(self, at: int) -> None:
        super().__init__(f"token {at} of the answer is a near-tie")
        self.at = at


def shortened(request: Request) -> Request:
    """The request, or with fewer tokens the part of it whose greedy answer is beyond doubt."""
    try:
        foretell(request)
    except NearTie as tie:
        if tie.at == 0:
            raise
        return request.but(max_tokens=tie.at)
    return request


def prompt_ids(request: Request) -> list[int]:
    """The token ids of a request's one prompt."""
    prompt = request.get("prompt")
    return predictor(request.get("model")).encode(prompt) if isinstance(prompt, str) else prompt


def candidates(model: KnownAnswer, context: Sequence[int]) -> dict[str, float]:
    """The logprob of each token after a context, by text; without texts that two tokens share."""
    texts = {i: model.decode([i], skip_special_tokens=False) for i in range(len(model.transitions))}
    count = Counter(texts.values())
    found = enumerate(model.logprobs(context))
    return {texts[i]: logprob for i, logprob in found if count[texts[i]] == 1}


def foretell(request: Request) -> Foretold:
    """Predict a greedy completion with penalties, bias, bans and stops (vLLM's meaning of each).

    A stop token ends the text before itself, an end token has no text; until `min_tokens` are
    there, nothing stops. Source: vLLM, `v1/core/sched/utils.py`, `v1/engine/detokenizer.py`.
    """
    model, prompt = predictor(request.get("model")), prompt_ids(request)
    stop_ids = request.get("stop_token_ids", [])
    ends = [*stop_ids, *([] if request.get("ignore_eos") else [model.eos_id])]
    words = [model.encode(w, add_special_tokens=False) for w in request.get("bad_words", [])]
    sampling = Sampling.of(request.body or {}, ends=[*stop_ids, model.eos_id], bad_words=words)
    output: list[int] = []
    while len(output) < request.get("max_tokens"):
        output.append(_greedy(model, sampling, prompt, output))
        last = output[-1]
        if last in ends and len(output) >= sampling.min_tokens:
            kept = output if request.get("include_stop_str_in_output") else output[:-1]
            reason = last if last in stop_ids and last != model.eos_id else None
            return Foretold(model.decode(kept), "stop", reason, tuple(output))
        found = _stopped(model, request, output)
        if found is not None:
            return found
    return Foretold(model.decode(output), "length", None, tuple(output))


def _greedy(
    model: KnownAnswer, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]
) -> int:
    logits = dict(enumerate(model.logits([*prompt, *output])))
    values = processed(logits, sampling, prompt, output)
    best, second = sorted(values, key=lambda token: -values[token])[:2]
    # Else the test would insist on a choice that an honest rounding may change.
    if values[best] - values[second] < SAFE_MARGIN:
        raise NearTie(len(output))
    return best


def _stopped(model: KnownAnswer, request: Request, output: Sequence[int]) -> Foretold | None:
    """The answer, if the last token completed a stop string."""
    if len(output) <= request.get("min_tokens", 0):
        return None
    stops = request.get("stop", [])
    text = model.decode(output)
    ignored = len(model.decode(output[: request.get("min_tokens", 0)]))
    for stop in [stops] if isinstance(stops, str) else stops:
        at = text.find(stop, ignored)
        if at >= 0:
            end = at + len(stop) if request.get("include_stop_str_in_output") else at
            return Foretold(text[:end], "stop", stop, tuple(output))
    return None
