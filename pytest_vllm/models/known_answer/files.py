"""The files beside the weights: configuration and tokenizer, written by hand.

They use only what both transformers 4 and 5 read, so any vLLM image loads them:
`PreTrainedTokenizerFast` takes tokenizer.json as it is, and `torch_dtype` has been understood
since Llama exists.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_vllm.models.known_answer import geometry as g
from pytest_vllm.models.known_answer.tokenizer import WORD_PATTERN
from pytest_vllm.models.known_answer.vocabulary import IDS, SPECIALS, TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vllm.models.known_answer.recipe import Recipe

__all__ = ["text_files", "token_strings"]


def text_files(recipe: Recipe) -> dict[str, bytes]:
    """Return the content of every file but the weights, by file name."""
    contents = {
        "config.json": _config(recipe),
        "generation_config.json": _generation(recipe),
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": _tokenizer_config(recipe),
    }
    return {name: (json.dumps(data, indent=1) + "\n").encode() for name, data in contents.items()}


def _generation(recipe: Recipe) -> dict[str, object]:
    return {"bos_token_id": IDS[b"<s>"], "eos_token_id": IDS[recipe.end.encode()]}


def _config(recipe: Recipe) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "vocab_size": len(TOKENS),
        "hidden_size": g.HIDDEN,
        "intermediate_size": g.INTERMEDIATE,
        "num_hidden_layers": 1,
        "num_attention_heads": g.HEADS,
        "num_key_value_heads": g.KV_HEADS,
        "head_dim": g.HEAD_DIM,
        "hidden_act": "silu",
        "max_position_embeddings": g.MAX_POSITIONS,
        "rms_norm_eps": g.EPSILON,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **_generation(recipe),
    }


def _tokenizer_config(recipe: Recipe) -> dict[str, object]:
    settings: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": recipe.end,
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": g.MAX_POSITIONS,
    }
    if recipe.chat_template is not None:
        settings["chat_template"] = recipe.chat_template
    return settings


def _tokenizer() -> Mapping[str, object]:
    """Return tokenizer.json: words are looked up whole, anything else falls to bytes."""
    vocabulary = {token: index for index, token in enumerate(token_strings())}
    byte_level = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": WORD_PATTERN}, "behavior": "Isolated"}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(special) for special in SPECIALS],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{**split, "invert": False}, {"type": "ByteLevel", **byte_level}],
        },
        "post_processor": _begin_with_bos(),
        "decoder": {"type": "ByteLevel", **byte_level},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": vocabulary,
            "merges": [],
        },
    }


def token_strings() -> list[str]:
    """Return every token as byte-level tokenizers write it, by id."""
    alphabet = _byte_alphabet()
    words = TOKENS[len(SPECIALS) :]
    return [*SPECIALS, *("".join(alphabet[value] for value in token) for token in words)]


def _added(special: str) -> dict[str, object]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": IDS[special.encode()], "content": special, **flags, "special": True}


def _begin_with_bos() -> dict[str, object]:
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [bos, text],
        "pair": [bos, text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [IDS[b"<s>"]], "tokens": ["<s>"]}},
    }


def _byte_alphabet() -> dict[int, str]:
    """Give each byte the printable character that byte-level tokenizers write for it.

    The mapping is GPT-2's `bytes_to_unicode`: printable Latin-1 stands for itself, the other
    68 bytes are numbered from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = (value for value in range(256) if value not in printable)
    shifted = {value: chr(0x100 + place) for place, value in enumerate(others)}
    return {value: chr(value) for value in printable} | shifted
