"""A known-answer model as a GGUF file, for llama.cpp and what is built on it.

A second engine that shares no code with vLLM is the best witness for the formulas. Needs the
package gguf (`pip install pytest-vllm[gguf]`), llama.cpp's own writer.

llama.cpp knows tokenizers by name. `llama-bpe` (Llama 3) looks words up whole like ours, and
differs only where a word follows a character that is neither a space nor a letter: `(Monday`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer import geometry as g
from pytest_vllm.models.known_answer.files import token_strings
from pytest_vllm.models.known_answer.recipe import recipe
from pytest_vllm.models.known_answer.vocabulary import IDS, SPECIALS, TOKENS
from pytest_vllm.models.known_answer.weights import Tensor, tensors

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter

__all__ = ["write_gguf"]

#: Names of Llama checkpoints -> llama.cpp's (gguf-py, `tensor_mapping.py`).
_NAMES = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(name: str, path: Path) -> Path:
    """Write the known-answer model of this name into a file, and return its path.

    Raises:
        UnknownKnownAnswerError: There is no such model.
        ImportError: The package gguf is not installed.
    """
    from gguf import GGUFWriter

    which = recipe(name)
    writer = GGUFWriter(str(path), "llama")
    _add_geometry(writer, name)
    _add_tokenizer(writer, which.end, which.chat_template)
    for tensor_name, tensor in tensors(which).items():
        _add_tensor(writer, _ggml_name(tensor_name), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_geometry(writer: GGUFWriter, name: str) -> None:
    writer.add_name(name)
    writer.add_vocab_size(len(TOKENS))
    writer.add_context_length(g.MAX_POSITIONS)
    writer.add_embedding_length(g.HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(g.INTERMEDIATE)
    writer.add_head_count(g.HEADS)
    writer.add_head_count_kv(g.KV_HEADS)
    writer.add_layer_norm_rms_eps(g.EPSILON)
    writer.add_rope_dimension_count(g.HEAD_DIM)


def _add_tokenizer(writer: GGUFWriter, end: str, chat_template: str | None) -> None:
    from gguf import TokenType

    special, normal = int(TokenType.CONTROL), int(TokenType.NORMAL)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(token_strings())
    writer.add_token_types([special if i < len(SPECIALS) else normal for i in range(len(TOKENS))])
    # There are none, but llama.cpp insists on some: text never has these two beside each other,
    # since merging begins with single characters.
    writer.add_token_merges([f"{SPECIALS[0]} {SPECIALS[0]}"])
    writer.add_bos_token_id(IDS[b"<s>"])
    writer.add_eos_token_id(IDS[end.encode()])
    writer.add_pad_token_id(IDS[b"<|pad|>"])
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _ggml_name(name: str) -> str:
    name = name.removesuffix(".weight")
    layer, found, inner = name.partition("model.layers.0.")
    return f"blk.0.{_NAMES[inner]}.weight" if found else f"{_NAMES[layer]}.weight"


def _add_tensor(writer: GGUFWriter, name: str, tensor: Tensor) -> None:
    """Matrices as they are, in bfloat16; llama.cpp wants vectors (norms) in float32."""
    import numpy as np
    from gguf import GGMLQuantizationType

    halves = np.frombuffer(tensor.data, dtype="<u2")
    if len(tensor.shape) == 1:
        floats = (halves.astype("<u4") << 16).view("<f4").reshape(tensor.shape)
        writer.add_tensor(name, floats)
    else:
        raw = halves.reshape(tensor.shape).view(np.uint8)
        writer.add_tensor(name, raw, raw_dtype=GGMLQuantizationType.BF16)
