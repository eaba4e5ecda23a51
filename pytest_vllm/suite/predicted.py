"""What a known-answer model must answer, in the words of the checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_vllm.client.checks_exact import Expected, Position
from pytest_vllm.models.known_answer import TOLERANCE, KnownAnswer, Step, predictor

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Server

__all__ = ["expected_answer", "expected_chat_answer", "tolerance"]

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

    Without one the checkpoint's own is served, which is bfloat16; of a server that somebody
    else started nothing is known. Both get the widest tolerance.
    """
    return TOLERANCE.get(server.spec.dtype or "", max(TOLERANCE.values()))
