"""Tiny checkpoints whose attention differs: MHA, GQA, MLA, sliding windows; random weights.

For the memory estimate only: what they say is noise. The tokenizer is the known-answer models'.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.e2e.tiny_models import copy_tokenizer

_Array = NDArray[np.float32]

HIDDEN, INNER, POSITIONS = 256, 4096, 4096

#: Each of them by name: the configuration, beside what all share.
SHAPES: dict[str, dict[str, Any]] = {
    "mha": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
    },
    "gqa": {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
    },
    "mla": {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "q_lora_rank": None,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 32,
        "v_head_dim": 32,
        "first_k_dense_replace": 3,
        "moe_intermediate_size": 64,
    },
    "sliding": {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "sliding_window": 256,
        "query_pre_attn_scalar": 64,
        "hidden_activation": "gelu_pytorch_tanh",
        "rope_local_base_freq": 10000.0,
    },
    # 32 KiB per token: a cache of 1 GiB ends long before its longest context does.
    "long": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": 8,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "head_dim": 64,
        "intermediate_size": 256,
        "max_position_embeddings": 65536,
    },
}


def build(name: str, directory: Path) -> Path:
    """Write one; returns its directory."""
    size = copy_tokenizer(directory)
    config = {
        "vocab_size": size,
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
    } | SHAPES[name]
    (directory / "config.json").write_text(json.dumps(config))
    save_file(_tensors(config), directory / "model.safetensors", {"format": "pt"})
    return directory


def _tensors(config: dict[str, Any]) -> dict[str, _Array]:
    random = np.random.default_rng(3)

    def tensor(*shape: int) -> _Array:
        return (random.standard_normal(shape) * 0.02).astype(np.float32)

    tensors = {
        "model.embed_tokens.weight": tensor(config["vocab_size"], HIDDEN),
        "model.norm.weight": np.ones(HIDDEN, np.float32),
    }
    for layer in range(config["num_hidden_layers"]):
        shapes = _attention(config) | _rest(config)
        for name, shape in shapes.items():
            one = np.ones(shape, np.float32)
            tensors[f"model.layers.{layer}.{name}.weight"] = (
                one if len(shape) == 1 else tensor(*shape)
            )
        if config["model_type"] == "qwen2":
            for which in "qkv":
                rows = shapes[f"self_attn.{which}_proj"][0]
                name = f"model.layers.{layer}.self_attn.{which}_proj.bias"
                tensors[name] = np.zeros(rows, np.float32)
    return tensors


def _attention(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    heads = config["num_attention_heads"]
    if rank := config.get("kv_lora_rank"):
        rope, nope, value = (
            config[key] for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        )
        return {
            "self_attn.q_proj": (heads * (nope + rope), HIDDEN),
            "self_attn.kv_a_proj_with_mqa": (rank + rope, HIDDEN),
            "self_attn.kv_a_layernorm": (rank,),
            "self_attn.kv_b_proj": (heads * (nope + value), rank),
            "self_attn.o_proj": (HIDDEN, heads * value),
        }
    size, kv_heads = config["head_dim"], config["num_key_value_heads"]
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj": (heads * size, HIDDEN),
        "self_attn.k_proj": (kv_heads * size, HIDDEN),
        "self_attn.v_proj": (kv_heads * size, HIDDEN),
        "self_attn.o_proj": (HIDDEN, heads * size),
    }
    if config["model_type"] == "gemma3_text":
        shapes |= {"self_attn.q_norm": (size,), "self_attn.k_norm": (size,)}
    return shapes


def _rest(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    norms, inner = ["input_layernorm", "post_attention_layernorm"], config["intermediate_size"]
    if config["model_type"] == "gemma3_text":
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    return {
        "mlp.gate_proj": (inner, HIDDEN),
        "mlp.up_proj": (inner, HIDDEN),
        "mlp.down_proj": (HIDDEN, inner),
    } | dict.fromkeys(norms, (HIDDEN,))
