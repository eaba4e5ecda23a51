"""Tiny checkpoints of real architectures with random weights: OPT (base) and Qwen2 (chat).

They stand in for the real ones in size only: the engine loads them through the same code, and
`facebook/opt-125m` resolves through the same Hugging Face cache layout.
The tokenizer is the known-answer models'. Tokens that are no plain text have an embedding of
zero, so that greedy text is readable whatever the random numbers are.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pytest_vllm.models import known_answer

_Array = NDArray[np.float32]

HIDDEN, LAYERS, HEADS, POSITIONS, INNER = 64, 2, 2, 1024, 128
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def opt_in_hub_cache(cache: Path, model: str = "facebook/opt-125m") -> Path:
    """Lay a tiny OPT into a Hugging Face cache as the hub client would; returns the cache."""
    folder = cache / "hub" / f"models--{model.replace('/', '--')}"
    revision = "27dcfa74d334bc871f3234de431e71c6eeba5dd6"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(revision)
    _tiny_opt(folder / "snapshots" / revision)
    return cache


def chat_model(directory: Path) -> Path:
    """Write a tiny Qwen2 with a chat template; returns its directory."""
    size = copy_tokenizer(directory, chat_template=CHAT_TEMPLATE)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "num_key_value_heads": 1,
        "intermediate_size": INNER,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    }
    _write(directory, config, size, _qwen2_tensors(size))
    return directory


def _tiny_opt(directory: Path) -> None:
    size = copy_tokenizer(directory)
    config = {
        "architectures": ["OPTForCausalLM"],
        "model_type": "opt",
        "ffn_dim": INNER,
        "word_embed_proj_dim": HIDDEN,
        "do_layer_norm_before": True,
        "activation_function": "relu",
    }
    _write(directory, config, size, _opt_tensors(size))


def copy_tokenizer(directory: Path, **more: str) -> int:
    """Copy the known-answer tokenizer; returns its vocabulary size."""
    directory.mkdir(parents=True)
    source = known_answer.build("known-answer/base")
    shutil.copy(source / "tokenizer.json", directory)
    config = json.loads((source / "tokenizer_config.json").read_text())
    (directory / "tokenizer_config.json").write_text(json.dumps(config | more))
    return int(json.loads((source / "config.json").read_text())["vocab_size"])


def _write(directory: Path, config: dict[str, Any], size: int, tensors: dict[str, _Array]) -> None:
    common = {
        "vocab_size": size,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "torch_dtype": "float32",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    (directory / "config.json").write_text(json.dumps(common | config))
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})


def _random(seed: int) -> Any:
    generator = np.random.default_rng(seed)

    def tensor(*shape: int) -> _Array:
        return (generator.standard_normal(shape) * 0.05).astype(np.float32)

    return tensor


def _embedding(size: int, tensor: Any) -> _Array:
    rows: _Array = tensor(size, HIDDEN)
    for token in range(size):
        text = known_answer.predictor("known-answer/base").decode([token])
        if not (text.isascii() and text.isprintable() and text):
            rows[token] = 0
    return rows


def _opt_tensors(size: int) -> dict[str, _Array]:
    tensor = _random(1)
    ones, zeros = np.ones(HIDDEN, np.float32), np.zeros(HIDDEN, np.float32)
    root = "model.decoder."
    tensors = {
        f"{root}embed_tokens.weight": _embedding(size, tensor),
        f"{root}embed_positions.weight": tensor(POSITIONS + 2, HIDDEN),
        f"{root}final_layer_norm.weight": ones,
        f"{root}final_layer_norm.bias": zeros,
    }
    for layer in range(LAYERS):
        name = f"{root}layers.{layer}."
        for projection in ("q", "k", "v", "out"):
            tensors[f"{name}self_attn.{projection}_proj.weight"] = tensor(HIDDEN, HIDDEN)
            tensors[f"{name}self_attn.{projection}_proj.bias"] = zeros
        for norm in ("self_attn_layer_norm", "final_layer_norm"):
            tensors |= {f"{name}{norm}.weight": ones, f"{name}{norm}.bias": zeros}
        tensors |= {f"{name}fc1.weight": tensor(INNER, HIDDEN), f"{name}fc2.bias": zeros}
        tensors |= {f"{name}fc2.weight": tensor(HIDDEN, INNER), f"{name}fc1.bias": tensor(INNER)}
    return tensors


def _qwen2_tensors(size: int) -> dict[str, _Array]:
    tensor = _random(2)
    ones, head = np.ones(HIDDEN, np.float32), HIDDEN // HEADS
    tensors = {
        "model.embed_tokens.weight": _embedding(size, tensor),
        "model.norm.weight": ones,
    }
    for layer in range(LAYERS):
        name = f"model.layers.{layer}."
        for projection, rows in (("q", HIDDEN), ("k", head), ("v", head)):
            tensors[f"{name}self_attn.{projection}_proj.weight"] = tensor(rows, HIDDEN)
            tensors[f"{name}self_attn.{projection}_proj.bias"] = np.zeros(rows, np.float32)
        tensors[f"{name}self_attn.o_proj.weight"] = tensor(HIDDEN, HIDDEN)
        tensors[f"{name}mlp.gate_proj.weight"] = tensor(INNER, HIDDEN)
        tensors[f"{name}mlp.up_proj.weight"] = tensor(INNER, HIDDEN)
        tensors[f"{name}mlp.down_proj.weight"] = tensor(HIDDEN, INNER)
        tensors[f"{name}input_layernorm.weight"] = ones
        tensors[f"{name}post_attention_layernorm.weight"] = ones
    return tensors
