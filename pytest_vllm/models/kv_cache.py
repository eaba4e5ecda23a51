"""How much memory the KV cache takes, computed from `config.json` as vLLM does it. Pure.

Per GPU, token and layer (`dtype` is 2 bytes for bf16 and fp16, 1 for `--kv-cache-dtype fp8`):

    MHA, GQA   2 · max(1, kv_heads // TP) · head_dim · dtype        keys and values
    MLA        (kv_lora_rank + qk_rope_head_dim) · dtype            one latent, not divided by TP

A layer with a sliding window holds at most the window, and the tokens that are on their way.
Layers are put into groups of equal size that draw blocks from one pool (vLLM's hybrid
allocator), so one kind of layers may be padded.
Source: vLLM 0.32, v1/kv_cache_interface.py (`max_memory_usage_bytes`) and
v1/core/kv_cache_utils.py (`_get_kv_cache_groups_uniform_page_size`, `get_kv_cache_capacity`).
tests/e2e/test_preflight.py compares with what a real vLLM logs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = Mapping[str, Any]

#: Layers that keep no keys and values of their own, but a state of fixed size.
_STATE_LAYERS = ("mamba", "linear_attention", "recurrent", "conv")


@dataclass(frozen=True)
class Geometry:
    """What decides the size of a model's KV cache.

    Attributes:
        heads: Attention heads; the tensor parallel size must divide them.
        kv_heads: Heads that keys and values have.
        head_dim: Numbers per head.
        latent: Numbers per token where keys and values are one latent (MLA), else None.
        windows: Layers by their sliding window, None for layers that keep every token.
        max_len: Longest context that the model was made for.
    """

    heads: int
    kv_heads: int
    head_dim: int
    latent: int | None
    windows: Mapping[int | None, int]
    max_len: int

    def token_bytes(self, tp: int, dtype_bytes: float) -> float:
        """Bytes of one token in one layer, on one GPU."""
        if self.latent is not None:
            return self.latent * dtype_bytes
        return 2 * max(1, self.kv_heads // tp) * self.head_dim * dtype_bytes


@dataclass(frozen=True)
class KvCache:
    """The KV cache of one GPU.

    Attributes:
        geometry: Of the model.
        tp: Tensor parallel size.
        dtype_bytes: Bytes per number.
        block: Tokens per block.
        batched_tokens: Most tokens of one step (`--max-num-batched-tokens`).
        steps: Steps that are on their way at a time: 2, since vLLM schedules ahead.
    """

    geometry: Geometry
    tp: int = 1
    dtype_bytes: float = 2.0
    block: int = 16
    batched_tokens: int = 8192
    steps: int = 2
    _group: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        counts = self.geometry.windows.values()
        least, most = min(counts), max(counts)
        # As many layers as the rarest kind has; or as the other, if that is hardly more.
        object.__setattr__(self, "_group", most if most < least * 1.5 else least)

    @property
    def block_bytes(self) -> float:
        """Bytes of one block of the pool: of one group of layers."""
        per_token = self.geometry.token_bytes(self.tp, self.dtype_bytes)
        return self._group * self.block * per_token

    def blocks(self, length: int) -> int:
        """Blocks that one request of this length takes."""
        return sum(
            -(-layers // self._group) * self._blocks_of(window, length)
            for window, layers in self.geometry.windows.items()
        )

    def _blocks_of(self, window: int | None, length: int) -> int:
        if window is None:
            return -(-length // self.block)
        held = min(window - 1 + self.steps * self.batched_tokens, length)
        return -(-held // self.block) + 1  # a window may begin in the middle of a block

    def request_bytes(self, length: int) -> float:
        """Bytes that one request of this length takes."""
        return self.blocks(length) * self.block_bytes

    def capacity(self, available: float, length: int) -> int:
        """Tokens that fit into so many bytes, as vLLM says at the start for this longest length."""
        return int(int(available // self.block_bytes) / self.blocks(length) * length)

    def longest(self, available: float, length: int) -> int:
        """The longest request, of at most this length, that fits; 0 if none does."""
        low, high = 0, length
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if self.request_bytes(middle) <= available else (low, middle - 1)
            )
        return low


def geometry(config: Config) -> Geometry | None:
    """Read the geometry; None where the config does not say, or is of another kind of model."""
    text = text_config(config)
    heads = _first(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    layers = _first(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    if not heads or not layers or any(_is_state(kind) for kind in _layer_types(text)):
        return None
    hidden = _first(text, "hidden_size", "n_embd", "d_model") or 0
    head_dim = _first(text, "head_dim", "hidden_size_per_head") or hidden // heads
    latent = None
    if (rank := _first(text, "kv_lora_rank")) is not None:
        latent = rank + (_first(text, "qk_rope_head_dim") or 0)
    if not head_dim and latent is None:
        return None
    kv_heads = _first(text, "n_head_kv", "num_kv_heads", "num_key_value_heads") or heads
    if text.get("multi_query") is True and "num_kv_heads" not in text:
        kv_heads = 1  # Falcon, GPT-BigCode
    lengths = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    return Geometry(
        heads, kv_heads, head_dim, latent, _windows(text, layers), _first(text, *lengths) or 0
    )


def text_config(config: Config) -> Config:
    """The part about the language model: a multimodal config has one for each part."""
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(part := config.get(name), dict):
            return {**part, "architectures": config.get("architectures")}
    return config


def _first(config: Config, *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _layer_types(config: Config) -> list[str]:
    kinds = config.get("layer_types") or config.get("layers_block_type")
    return [str(kind) for kind in kinds] if isinstance(kinds, list) else []


def _is_state(kind: str) -> bool:
    return any(word in kind for word in _STATE_LAYERS)


#: One layer in so many keeps every token, where `layer_types` does not say it layer by layer.
#: Source: the defaults of transformers' config classes of these model types.
_FULL_EVERY = {"gemma2": 2, "gemma3_text": 6, "gemma3": 6, "cohere2": 4}


def _windows(config: Config, layers: int) -> dict[int | None, int]:
    """Layers by their window."""
    window = _first(config, "sliding_window")
    if window is None or config.get("use_sliding_window") is False:
        return {None: layers}
    if kinds := _layer_types(config):
        sliding = sum("sliding" in kind for kind in kinds[:layers])
    else:
        kind = str(config.get("model_type"))
        every = _first(config, "sliding_window_pattern") or _FULL_EVERY.get(kind)
        sliding = layers - (layers // every if every else 0)
    counts = {None: layers - sliding, window: sliding}
    return {key: count for key, count in counts.items() if count}
