"""The tensors of a known-answer checkpoint: the construction in `geometry`, as safetensors bytes.

Nearly everything is zero, so the standard library is enough: no numpy, and the same bytes on
every machine. Stored as bfloat16; all values are exact in bfloat16, float16 and float32, so one
file serves in each dtype.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer import geometry as g
from pytest_vllm.models.known_answer.tables import memory, transitions
from pytest_vllm.models.known_answer.vocabulary import TOKENS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pytest_vllm.models.known_answer.recipe import Recipe

__all__ = ["Tensor", "safetensors", "tensors"]

_IDS = range(len(TOKENS))


@dataclass(frozen=True)
class Tensor:
    """A bfloat16 tensor, row by row."""

    shape: tuple[int, ...]
    data: bytes


def safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Return a safetensors file: header length, JSON header, data.

    Format: https://huggingface.co/docs/safetensors/index#format
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in tensors.items():
        end = start + len(tensor.data)
        header[name] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *(t.data for t in tensors.values())])


def tensors(recipe: Recipe) -> dict[str, Tensor]:
    """Return the tensors under the names that Llama checkpoints use."""
    layer = "model.layers.0"
    heads, kv_heads = g.HEADS * g.HEAD_DIM, g.KV_HEADS * g.HEAD_DIM
    return {
        "model.embed_tokens.weight": _matrix(len(TOKENS), g.HIDDEN, _embedding()),
        "lm_head.weight": _matrix(len(TOKENS), g.HIDDEN, _head(recipe)),
        "model.norm.weight": _ones(),
        f"{layer}.input_layernorm.weight": _ones(),
        f"{layer}.post_attention_layernorm.weight": _ones(),
        f"{layer}.self_attn.q_proj.weight": _matrix(heads, g.HIDDEN),
        f"{layer}.self_attn.k_proj.weight": _matrix(kv_heads, g.HIDDEN),
        f"{layer}.self_attn.v_proj.weight": _matrix(kv_heads, g.HIDDEN, _values()),
        f"{layer}.self_attn.o_proj.weight": _matrix(g.HIDDEN, heads, _output(recipe)),
        f"{layer}.mlp.gate_proj.weight": _matrix(g.INTERMEDIATE, g.HIDDEN),
        f"{layer}.mlp.up_proj.weight": _matrix(g.INTERMEDIATE, g.HIDDEN),
        f"{layer}.mlp.down_proj.weight": _matrix(g.HIDDEN, g.INTERMEDIATE),
    }


def _embedding() -> Iterator[tuple[int, int, float]]:
    for token in _IDS:
        yield token, token, 1
        for place, constant in enumerate(g.CONSTANTS):
            yield token, len(TOKENS) + place, constant


def _head(recipe: Recipe) -> Iterator[tuple[int, int, float]]:
    for token, row in enumerate(transitions(recipe.end)):
        for following, logit in enumerate(row):
            yield following, token, logit
    for token, row in enumerate(memory() if recipe.remembers else ()):
        for following, logit in enumerate(row):
            yield following, g.MEAN + token, logit


def _values() -> Iterator[tuple[int, int, float]]:
    """Copy the one-hot into the value channels."""
    for token in _IDS:
        yield token, token, 1


def _output(recipe: Recipe) -> Iterator[tuple[int, int, float]]:
    """Write the mean from MEAN on, in equal parts from the query heads that share a KV head.

    Both heads count, so that a wrong result of any of them is seen.
    """
    share = g.HEADS // g.KV_HEADS
    for token in _IDS if recipe.remembers else ():
        kv_head, channel = divmod(token, g.HEAD_DIM)
        for head in range(kv_head * share, (kv_head + 1) * share):
            yield g.MEAN + token, head * g.HEAD_DIM + channel, 1 / share


def _matrix(rows: int, columns: int, entries: Iterable[tuple[int, int, float]] = ()) -> Tensor:
    """Fill the (row, column, value) entries into zeros."""
    data = bytearray(2 * rows * columns)
    for row, column, value in entries:
        at = 2 * (row * columns + column)
        data[at : at + 2] = _bfloat16(value)
    return Tensor((rows, columns), bytes(data))


def _ones() -> Tensor:
    return Tensor((g.HIDDEN,), _bfloat16(1) * g.HIDDEN)


@cache
def _bfloat16(value: float) -> bytes:
    """Return the upper half of the float32: exact for every value used here (see the tests)."""
    return struct.pack("<f", value)[2:]
