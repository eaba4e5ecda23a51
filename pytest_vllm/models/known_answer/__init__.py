"""Known-answer models: checkpoints whose every logit is a formula.

`build` writes one to disk for a server to load; `predictor` computes what a correct server must
answer. Both need the standard library only.
"""

from __future__ import annotations

from pytest_vllm.models.known_answer.cache import build
from pytest_vllm.models.known_answer.predict import (
    SAFE_MARGIN,
    TOLERANCE,
    Answer,
    KnownAnswer,
    Step,
    predictor,
)
from pytest_vllm.models.known_answer.recipe import (
    NAMES,
    UnknownKnownAnswerError,
    is_known_answer,
)

__all__ = [
    "NAMES",
    "SAFE_MARGIN",
    "TOLERANCE",
    "Answer",
    "KnownAnswer",
    "Step",
    "UnknownKnownAnswerError",
    "build",
    "is_known_answer",
    "predictor",
]
