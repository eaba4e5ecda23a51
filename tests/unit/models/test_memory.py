from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pytest_vllm.models.memory import GIB, look_up, parameters_in, weight_files

CONFIG: dict[str, Any] = {
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "torch_dtype": "bfloat16",
}


def write(folder: Path, name: str, size: int = 100) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"x" * size)
    return folder / name


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def size(folder: Path, dtype: str | None = None) -> tuple[int, int]:
    """On disk, and loaded."""
    weights = look_up(str(folder), None, dtype).weights
    assert weights is not None
    return weights.bytes, weights.loaded


# --- files -------------------------------------------------------------------------------------


def test_shards_count_and_copies_in_other_formats_do_not(model: Path) -> None:
    write(model, "model-00001-of-00002.safetensors", 100)
    write(model, "model-00002-of-00002.safetensors", 50)
    write(model, "consolidated.safetensors", 1000)
    write(model, "pytorch_model.bin", 1000)
    write(model / "original", "model.safetensors", 1000)
    assert size(model) == (150, 150)


def test_the_index_says_which_files_are_loaded(model: Path) -> None:
    write(model, "a.safetensors", 100)
    write(model, "b.safetensors", 7)
    index = {"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weight_files(model) == [model / "a.safetensors"]


def test_a_shard_that_is_missing_makes_the_model_incomplete_and_not_smaller(model: Path) -> None:
    write(model, "a.safetensors", 100)
    index = {
        "metadata": {"total_size": 500},
        "weight_map": {"x": "a.safetensors", "y": "b.safetensors"},
    }
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert size(model) == (500, 500)
    assert not look_up(str(model), None).complete


def test_an_index_alone_is_no_model_that_is_here(model: Path) -> None:
    index = {"metadata": {"total_size": 500}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    found = look_up(str(model), None)
    assert found.weights is not None
    assert not found.complete


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model-q4.gguf", "consolidated.safetensors"])
def test_other_formats_count_where_they_are_all_there_is(model: Path, name: str) -> None:
    write(model, name, 70)
    assert size(model)[0] == 70


def test_links_of_the_cache_are_followed(tmp_path: Path) -> None:
    entry = tmp_path / "models--acme--m"
    blob = write(entry / "blobs", "abc", 123)
    snapshot = entry / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    found = look_up("acme/m", tmp_path)
    assert found.complete
    assert found.weights is not None
    assert found.weights.bytes == 123


def test_four_bytes_on_disk_are_two_in_memory(model: Path) -> None:
    (model / "config.json").write_text(json.dumps(CONFIG | {"torch_dtype": "float32"}))
    tensors: dict[str, Any] = {"a": np.zeros(1000, np.float32), "ids": np.zeros(10, np.int64)}
    save_file(tensors, model / "model.safetensors")
    assert size(model)[1] == 2080
    assert size(model, "float32")[1] == size(model)[0]


# --- no files ----------------------------------------------------------------------------------


def test_a_recipe_knows_models_that_are_not_here(tmp_path: Path) -> None:
    found = look_up("deepseek-ai/DeepSeek-V3.1", tmp_path)
    assert found.recipe is not None
    assert found.weights is not None
    assert (found.weights.source, found.weights.certain) == ("the project's recipe", False)
    assert 600 < found.weights.bytes / GIB < 700


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("acme/foo-70B", 70),
        ("acme/Mixtral-8x7B-Instruct", 56),
        ("acme/foo-0.5b-chat", 0.5),
        ("facebook/opt-125m", 0.125),
        ("acme/LFM2-8B-A1B", 8),
        ("acme/draft-1B-for-70B", 70),
        ("acme/Llama-3.1-405B-Instruct-FP8", 405),
        ("70b-lab/foo", None),
        ("acme/foo-v3", None),
        ("acme/b2b", None),
        ("acme/gpt-4bit", None),
        ("", None),
    ],
)
def test_parameters_are_read_from_the_name(name: str, billions: float | None) -> None:
    found = parameters_in(name)
    assert found == (billions and pytest.approx(billions * 1e9))


@pytest.mark.parametrize(
    ("name", "bytes_each"), [("a/x-7B", 2.0), ("a/x-7B-FP8", 1.05), ("a/x-7B-AWQ", 0.6)]
)
def test_a_size_from_the_name_is_said_to_be_estimated(name: str, bytes_each: float) -> None:
    weights = look_up(name, None).weights
    assert weights is not None
    assert weights.bytes == pytest.approx(7e9 * bytes_each)
    assert weights.source == "estimated from its name"
    assert not weights.certain


def test_of_a_name_that_says_nothing_nothing_is_known(tmp_path: Path) -> None:
    found = look_up("acme/unknown", tmp_path)
    assert (found.weights, found.geometry, found.folder) == (None, None, None)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"num_attention_heads": []}'])
def test_files_that_are_broken_are_as_if_not_there(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    (model / "model.safetensors.index.json").write_text(text)
    found = look_up(str(model), None)
    assert (found.weights, found.geometry) == (None, None)


def test_more_gpus_hold_a_little_twice() -> None:
    weights = look_up("a/x-7B", None).weights
    assert weights is not None
    assert weights.per_gpu(1) == weights.loaded
    assert weights.per_gpu(2) == pytest.approx(weights.loaded / 2 * 1.02)
