"""The GGUF file says the same as the checkpoint: tokens, end of text, tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from pytest_vllm.models import known_answer
from pytest_vllm.models.known_answer.gguf import write_gguf
from pytest_vllm.models.known_answer.recipe import UnknownKnownAnswerError, recipe
from pytest_vllm.models.known_answer.vocabulary import IDS, TOKENS
from pytest_vllm.models.known_answer.weights import tensors


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("gguf") / "chat.gguf"
    return GGUFReader(str(write_gguf("known-answer/chat", path)))


def field(reader: Any, name: str) -> Any:
    return reader.get_field(name).contents()


def test_every_tensor_has_the_values_of_the_checkpoint(reader: Any) -> None:
    found = {t.name: np.asarray(t.data) for t in reader.tensors}
    expected = tensors(recipe("known-answer/chat"))
    assert len(found) == len(expected)
    head = expected["lm_head.weight"]
    assert found["output.weight"].tobytes() == head.data
    norm = found["output_norm.weight"]
    assert norm.dtype == np.float32
    assert norm.tolist() == [1.0] * 1024


def test_the_tokens_are_the_vocabulary_in_order(reader: Any) -> None:
    tokens = field(reader, "tokenizer.ggml.tokens")
    assert len(tokens) == len(TOKENS)
    assert tokens[IDS[b" Monday"]] == "ĠMonday"
    assert tokens[IDS[b"<|end|>"]] == "<|end|>"


def test_the_chat_model_ends_at_its_own_token_and_brings_its_template(reader: Any) -> None:
    assert field(reader, "tokenizer.ggml.eos_token_id") == IDS[b"<|end|>"]
    assert field(reader, "tokenizer.chat_template") == recipe("known-answer/chat").chat_template


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownKnownAnswerError, match="choose one of"):
        write_gguf(f"{known_answer.NAMES[0]}-x", tmp_path / "x.gguf")
