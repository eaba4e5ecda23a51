"""The tensors on disk do what the formula says: checked by a Llama that knows no formula."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors import deserialize

from pytest_vllm.models.known_answer import TOLERANCE
from pytest_vllm.models.known_answer.samples import PROMPTS, long_prompt
from pytest_vllm.models.known_answer.tables import memory, transitions
from pytest_vllm.models.known_answer.vocabulary import TOKENS
from tests.unit.models.known_answer import llama

if TYPE_CHECKING:
    from tests.unit.models.known_answer.conftest import Built


def _mixed(length: int) -> list[int]:
    return random.Random(length).choices(range(len(TOKENS)), k=length)


def _repetitive(length: int, seed: int) -> list[int]:
    """Make the worst case for rounding: large shares of few tokens."""
    dice = random.Random(seed)
    return dice.choices(dice.sample(range(len(TOKENS)), 3), weights=(80, 15, 5), k=length)


CONTEXTS = [
    *(_mixed(length) for length in (1, 3, 7, 20, 100, 300)),
    *(_repetitive(length, seed) for length in (3, 20, 60) for seed in range(3)),
]


@pytest.mark.parametrize("length", [1, 2, 3, 40, 300])
def test_a_reference_llama_agrees_with_the_formula(built: Built, length: int) -> None:
    ids = _mixed(length)
    served = llama.logprobs(built.weights, built.config, ids)
    np.testing.assert_allclose(served, built.expected.logprobs(ids), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("built", ["known-answer/context"], indirect=True)
@pytest.mark.parametrize(
    ("dtype", "cast"), [("bfloat16", llama.bfloat16), ("float16", llama.float16)]
)
def test_rounding_every_activation_keeps_the_five_best_within_the_tolerance(
    built: Built, dtype: str, cast: llama.Cast
) -> None:
    for ids in CONTEXTS:
        served = llama.logprobs(built.weights, built.config, ids, cast)
        expected = np.array(built.expected.logprobs(ids))
        best = np.argsort(-expected)[:5]
        assert np.abs(served - expected)[best].max() < TOLERANCE[dtype]


@pytest.mark.parametrize("built", ["known-answer/base", "known-answer/chat"], indirect=True)
def test_without_memory_bfloat16_loses_nothing(built: Built) -> None:
    for ids in CONTEXTS:
        served = llama.logprobs(built.weights, built.config, ids, llama.bfloat16)
        np.testing.assert_allclose(served, built.expected.logprobs(ids), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("built", ["known-answer/context"], indirect=True)
@pytest.mark.parametrize("prompt", [*PROMPTS, long_prompt(100)], ids=lambda text: text[:20])
def test_rounding_to_bfloat16_does_not_change_a_certain_answer(built: Built, prompt: str) -> None:
    ids = built.expected.encode(prompt)
    for step in built.expected.greedy(ids, 12):
        served = llama.logprobs(built.weights, built.config, ids, llama.bfloat16)
        assert int(served.argmax()) == step.token_id
        ids.append(step.token_id)


@pytest.mark.parametrize("cast", [llama.bfloat16, llama.float16])
def test_the_tables_are_exact_in_every_serving_dtype(cast: llama.Cast) -> None:
    for table in (transitions("</s>"), memory()):
        values = np.array(table)
        assert np.array_equal(cast(values), values)


def test_the_norm_leaves_every_embedding_as_it_is(built: Built) -> None:
    embedding = built.weights["model.embed_tokens.weight"]
    assert np.all((embedding**2).mean(axis=-1) == 1)


def test_the_safetensors_library_reads_the_same_tensors(built: Built) -> None:
    data = (built.path / "model.safetensors").read_bytes()
    read = dict(deserialize(data))  # type: ignore[no-untyped-call]
    assert {name: tuple(tensor["shape"]) for name, tensor in read.items()} == {
        name: weight.shape for name, weight in built.weights.items()
    }
    assert {tensor["dtype"] for tensor in read.values()} == {"BF16"}
