"""Where things stand in the hidden vector, and the one formula that follows from it.

A token's embedding is a one-hot at its own id, and the constants 31, 7, 3, 2 behind the ids.
31² + 7² + 3² + 2² + 1² = 1024 = H, so its root mean square is exactly 1 and RMSNorm (weight 1)
changes nothing: not in float32, not in bfloat16. Query and key are zero, so attention is the plain
mean over the context; the values copy the one-hot, and the output projection writes the mean c
from MEAN on. The MLP is zero. With `lm_head = [T | 0 | B]` (transposed) the logits are

    logits(next | context) = (T[last] + c·B) / sqrt(1 + |c|²/H + eps)

and T[last] itself where the model does not remember (c is not written). The constants keep
the root within 0.05 % of 1, so the bfloat16 rounding of the norm never reaches the logits.
"""

from __future__ import annotations

__all__ = [
    "CONSTANTS",
    "EPSILON",
    "HEADS",
    "HEAD_DIM",
    "HIDDEN",
    "INTERMEDIATE",
    "KV_HEADS",
    "MAX_POSITIONS",
    "MEAN",
]

HIDDEN = 1024
CONSTANTS = (31, 7, 3, 2)
MEAN = HIDDEN // 2
EPSILON = 1e-12
"""rms_norm_eps: small enough that float32 does not see it beside 1."""

HEAD_DIM = 128
"""The head size that every attention kernel (ROCm, CUDA, CPU) has."""
HEADS = 8
KV_HEADS = 4
"""KV_HEADS * HEAD_DIM = 512 value channels hold the one-hot of 483; two heads share each."""
INTERMEDIATE = 256
MAX_POSITIONS = 4096
