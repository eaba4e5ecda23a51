"""A Llama forward pass in numpy, written from the architecture and not from our formulas.

It computes in float32. `cast` stands for the dtype of a server: it is applied wherever one
stores an activation.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Array: TypeAlias = NDArray[np.float32]
Cast: TypeAlias = Callable[[Array], Array]


def load(checkpoint: Path) -> dict[str, Array]:
    data = (checkpoint / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    return {
        name: _from_bfloat16(data[8 + length :], *entry["data_offsets"]).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def _from_bfloat16(data: bytes, start: int, end: int) -> Array:
    halves = np.frombuffer(data[start:end], "<u2").astype(np.uint32) << 16
    return halves.view(np.float32)


def exact(values: Array) -> Array:
    return values


def bfloat16(values: Array) -> Array:
    """Round to the nearest bfloat16, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    result: Array = rounded.astype(np.uint32).view(np.float32)
    return result


def float16(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32)


def logprobs(
    weights: Mapping[str, Array],
    config: Mapping[str, float],
    ids: Sequence[int],
    cast: Cast = exact,
) -> Array:
    """Return the next-token logprobs after `ids`.

    One layer, so only the last position needs a query. RoPE is left out: it turns zeros only.
    """

    def norm(x: Array, name: str) -> Array:
        mean_square = (x * x).mean(axis=-1, keepdims=True)
        return cast(x / np.sqrt(mean_square + config["rms_norm_eps"]) * weights[name])

    def linear(x: Array, name: str) -> Array:
        return cast(x @ weights[f"model.layers.0.{name}_proj.weight"].T)

    embedded = weights["model.embed_tokens.weight"][list(ids)]
    x = norm(embedded, "model.layers.0.input_layernorm.weight")
    q, k, v = linear(x[-1], "self_attn.q"), linear(x, "self_attn.k"), linear(x, "self_attn.v")
    residual = cast(embedded[-1] + linear(cast(_attention(q, k, v, config)), "self_attn.o"))
    x = norm(residual, "model.layers.0.post_attention_layernorm.weight")
    gate = linear(x, "mlp.gate")
    x = cast(gate / (1 + np.exp(-gate)) * linear(x, "mlp.up"))
    residual = cast(residual + linear(x, "mlp.down"))
    logits = cast(norm(residual, "model.norm.weight") @ weights["lm_head.weight"].T)
    shifted: Array = logits - logits.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result


def _attention(q: Array, k: Array, v: Array, config: Mapping[str, float]) -> Array:
    """Attend from one query to all positions; consecutive query heads share a key-value head."""
    size = int(config["head_dim"])
    share = int(config["num_attention_heads"] // config["num_key_value_heads"])
    heads = []
    for head in range(int(config["num_attention_heads"])):
        mine = slice(head * size, (head + 1) * size)
        shared = slice(head // share * size, (head // share + 1) * size)
        scores = np.exp(k[:, shared] @ q[mine] / math.sqrt(size))
        heads.append(scores / scores.sum() @ v[:, shared])
    return np.concatenate(heads)
