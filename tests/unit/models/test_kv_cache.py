from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.models.kv_cache import Geometry, KvCache, geometry

GIB = 2**30

LLAMA_8B = {
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 131072,
}
DEEPSEEK = {
    "model_type": "deepseek_v3",
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "num_hidden_layers": 61,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "max_position_embeddings": 163840,
}
OPT = {
    "model_type": "opt",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "hidden_size": 768,
    "max_position_embeddings": 2048,
}
GEMMA = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "num_hidden_layers": 34,
        "sliding_window": 1024,
        "hidden_size": 2560,
    },
}


def read(config: dict[str, Any]) -> Geometry:
    found = geometry(config)
    assert found is not None
    return found


def per_token(config: dict[str, Any], tp: int = 1, width: float = 2) -> float:
    """Bytes per token on one GPU, of all layers."""
    found = read(config)
    return found.token_bytes(tp, width) * sum(found.windows.values())


# --- bytes per token, as published for these models ----------------------------------------------


@pytest.mark.parametrize(
    ("config", "size"),
    [(LLAMA_8B, 131072), (DEEPSEEK, 70272), (OPT, 36864)],
    ids=["gqa", "mla", "mha"],
)
def test_bytes_per_token_of_real_models(config: dict[str, Any], size: int) -> None:
    assert per_token(config) == size


@pytest.mark.parametrize(("tp", "share"), [(2, 2), (8, 8), (16, 8)])
def test_key_heads_are_divided_among_gpus_as_far_as_they_go(tp: int, share: int) -> None:
    assert per_token(LLAMA_8B, tp) == 131072 / share


def test_a_latent_is_on_every_gpu_in_full() -> None:
    assert per_token(DEEPSEEK, 8) == 70272


def test_fp8_halves_it() -> None:
    assert per_token(LLAMA_8B, width=1) == 65536


def test_one_request_of_deepseek_at_full_length() -> None:
    assert KvCache(read(DEEPSEEK)).request_bytes(163840) / GIB == pytest.approx(10.72, abs=0.01)


# --- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "windows"),
    [
        (GEMMA, {None: 5, 1024: 29}),
        ({**LLAMA_8B, "model_type": "gemma2", "sliding_window": 4096}, {None: 16, 4096: 16}),
        ({**LLAMA_8B, "model_type": "mistral", "sliding_window": 4096}, {4096: 32}),
        ({**LLAMA_8B, "model_type": "mistral", "sliding_window": None}, {None: 32}),
        (
            {**LLAMA_8B, "model_type": "qwen2", "sliding_window": 9, "use_sliding_window": False},
            {None: 32},
        ),
        (
            {
                **LLAMA_8B,
                "model_type": "gpt_oss",
                "sliding_window": 128,
                "layer_types": ["sliding_attention", "full_attention"] * 16,
            },
            {None: 16, 128: 16},
        ),
    ],
    ids=["gemma3", "gemma2", "mistral-v0.1", "mistral-v0.3", "qwen2", "gpt-oss"],
)
def test_which_layers_have_a_window(config: dict[str, Any], windows: dict[Any, int]) -> None:
    assert read(config).windows == windows


def test_a_window_holds_itself_and_what_is_on_its_way() -> None:
    found = Geometry(8, 8, 64, None, {1024: 4}, 131072)
    cache = KvCache(found, block=16, batched_tokens=2048, steps=1)
    assert cache.blocks(131072) == (1023 + 2048 + 15) // 16 + 1
    assert cache.blocks(512) == 512 // 16 + 1


def test_the_token_that_is_computed_is_in_the_window() -> None:
    found = Geometry(8, 8, 64, None, {17: 4}, 4096)
    assert KvCache(found, block=16, batched_tokens=16, steps=1).blocks(4096) == 2 + 1


def test_layers_of_two_kinds_share_a_pool_in_groups_of_the_rarer_kind() -> None:
    """5 full and 29 sliding layers: one group of 5 and six of 5, the last one padded."""
    cache = KvCache(read(GEMMA), block=16, batched_tokens=2048, steps=1)
    assert cache.block_bytes == 5 * 16 * 4 * 256 * 2 * 2
    assert cache.blocks(1600) == 100 + 6 * (1600 // 16 + 1)


def test_kinds_of_almost_the_same_number_are_padded_to_the_larger() -> None:
    found = Geometry(8, 8, 64, None, {None: 13, 128: 12}, 4096)
    assert KvCache(found).block_bytes == 13 * 16 * 2048


# --- what fits ---------------------------------------------------------------------------------


def test_capacity_comes_in_whole_blocks() -> None:
    found = Geometry(16, 16, 64, 576, {None: 3}, 4096)
    assert KvCache(found).capacity(GIB, 4096) == 310688


def test_the_longest_request_that_fits() -> None:
    cache = KvCache(read(LLAMA_8B))
    assert cache.longest(GIB, 131072) == 8192
    assert cache.longest(GIB, 4096) == 4096
    assert cache.longest(100, 4096) == 0


# --- what cannot be read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"num_attention_heads": 8},
        {**LLAMA_8B, "layer_types": ["linear_attention", "full_attention"] * 16},
        {**LLAMA_8B, "num_attention_heads": "many"},
        {**LLAMA_8B, "num_hidden_layers": 0},
    ],
    ids=["nothing", "no layers", "state layers", "words", "zero"],
)
def test_a_config_that_does_not_say_it_is_no_geometry(config: dict[str, Any]) -> None:
    assert geometry(config) is None
