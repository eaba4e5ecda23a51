"""How much memory a model needs: its weights, and the KV cache of one request.

From the files where they are on this machine, else from the recipe, else from the number in
the name ("70B", "8x7B"), which is then said to be estimated. No network.

    per GPU = weights / TP · 1.02 + KV cache of one request of the longest length + overhead

Sources: vLLM 0.32 (kv_cache.py names the files); the overhead is an estimate of the project.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vllm.models import hub
from pytest_vllm.models.kv_cache import Config, Geometry, geometry, text_config

if TYPE_CHECKING:
    from pytest_vllm.models.recipes import Recipe

GIB = 2**30

#: Of every shard a little is held twice: norms, biases, embeddings that are not divided.
_REPLICATED = 1.02

#: Estimated bytes per GPU beside weights and KV cache: the runtime's own, activations, graphs.
OVERHEAD = 3 * GIB

_DTYPES = {"float32": 4, "float": 4, "fp32": 4, "float16": 2, "half": 2, "bfloat16": 2}

#: Bytes per number of the formats that safetensors names.
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True)
class Weights:
    """The size of a model's weights.

    Attributes:
        bytes: On disk.
        source: Where the figure comes from, to be shown to people.
        certain: Whether it was read, and not estimated or recalled.
        loaded: In memory, all GPUs together: float32 weights are served in 16 bits.
    """

    bytes: int
    source: str
    certain: bool
    loaded: int

    def per_gpu(self, tp: int) -> float:
        """Bytes on each of `tp` GPUs."""
        return self.loaded / tp * (_REPLICATED if tp > 1 else 1)


@dataclass(frozen=True)
class Model:
    """What is known of a model before it is served.

    Attributes:
        name: As the user wrote it.
        folder: Its files on this machine, if they are here.
        complete: Whether all of its weights are here.
        weights: None where nobody knows.
        geometry: None where there is no config.json that says it.
        recipe: The project's own, if there is one.
    """

    name: str
    folder: Path | None
    complete: bool
    weights: Weights | None
    geometry: Geometry | None
    recipe: Recipe | None


def look_up(name: str, cache_dir: Path | None, dtype: str | None = None) -> Model:
    """What this machine, or the recipe, knows of a model."""
    folder = hub.snapshot(name, cache_dir)
    recipe = _recipe(name)
    config = hub.model_config(folder) if folder else {}
    files = weight_files(folder) if folder else []
    weights = _of_files(folder, files, config, dtype) if folder else None
    complete = weights is not None and weights.certain and all(f.exists() for f in files)
    weights = weights or _of_recipe(recipe) or _of_name(name)
    return Model(name, folder, complete, weights, geometry(config), recipe)


def _recipe(name: str) -> Recipe | None:
    from pytest_vllm.models.recipes import recipe_for

    return recipe_for(name)


# --- files -----------------------------------------------------------------------------------


def weight_files(folder: Path) -> list[Path]:
    """The files that vLLM loads, also those that are missing: root level, and one set only.

    Repositories hold copies in other formats (`original/`, `consolidated.safetensors`,
    `pytorch_model.bin`), which are not loaded.
    """
    if index := _index(folder, "model.safetensors.index.json"):
        return index
    every = sorted(folder.glob("*.safetensors"))
    if named := [f for f in every if not f.name.startswith("consolidated")]:
        return named
    if every:
        return every
    if index := _index(folder, "pytorch_model.bin.index.json"):
        return index
    return sorted(folder.glob("pytorch_model*.bin")) or sorted(folder.glob("*.gguf"))[:1]


def _index(folder: Path, name: str) -> list[Path]:
    try:
        names = json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values()
        return [folder / name for name in sorted({str(name) for name in names})]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []


def _of_files(folder: Path, files: list[Path], config: Config, dtype: str | None) -> Weights | None:
    try:
        size = sum(file.stat().st_size for file in files)
    except OSError:
        size = 0  # a shard is missing: the index tells what all of them have
    if not size:
        total = _total_of_index(folder)
        return Weights(total, "its index", False, total) if total else None
    loaded = size
    if _bytes_of(config) == 4 and dtype_bytes(config, dtype) == 2:
        loaded = sum(loaded_bytes(file, 2) for file in files)
    return Weights(size, "its files", True, loaded)


def _total_of_index(folder: Path) -> int:
    try:
        text = (folder / "model.safetensors.index.json").read_text(encoding="utf-8")
        return int(json.loads(text)["metadata"]["total_size"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def loaded_bytes(file: Path, width: int) -> int:
    """Bytes of a safetensors file in memory, once its wider floats have `width` bytes.

    Only the header is read: 8 bytes with its length, then JSON.
    """
    size = file.stat().st_size
    if file.suffix != ".safetensors":
        return size
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(min(length, 100 * 2**20)))
    except (OSError, ValueError):
        return size
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            wide = _WIDTHS.get(tensor["dtype"], 0) > width
            total += (end - begin) * width // _WIDTHS[tensor["dtype"]] if wide else end - begin
    return total


def dtype_bytes(config: Config, dtype: str | None = None) -> int:
    """Bytes per number of weights and KV cache: by `--dtype`, else as vLLM's `auto` decides.

    `auto` serves float32 checkpoints in 16 bits.
    """
    if dtype in _DTYPES:
        return _DTYPES[dtype]
    return 2


def _bytes_of(config: Config) -> int:
    text = text_config(config)
    for part in (config, text):
        for key in ("torch_dtype", "dtype"):
            if isinstance(value := part.get(key), str):
                return _DTYPES.get(value, 2)
    return 4  # transformers' own default


# --- no files --------------------------------------------------------------------------------


def _of_recipe(recipe: Recipe | None) -> Weights | None:
    if recipe is None:
        return None
    size = int(recipe.size_gib * GIB)
    return Weights(size, "the project's recipe", False, size)


#: "70B", "8x7B", "0.5b", "125m" as a word of its own.
_PARAMETERS = re.compile(r"(?<![\d.a-z])(?:(\d+)x)?(\d+(?:\.\d+)?)([bm])(?![a-z\d])", re.IGNORECASE)

#: What a name says of the number format -> bytes per parameter, scales included.
_FORMATS = (
    (r"\b(?:awq|gptq|int4|w4a16|4bit|bnb-4bit|nvfp4|mxfp4|fp4|q4\w*)\b", 0.6),
    (r"\b(?:fp8|int8|w8a8|w8a16|8bit|q8\w*)\b", 1.05),
)


def _of_name(name: str) -> Weights | None:
    """Estimated: the parameters in the name, in 16 bits or what the name says."""
    parameters = parameters_in(name)
    if parameters is None:
        return None
    words = name.replace("_", "-").lower()
    width = next((width for form, width in _FORMATS if re.search(form, words)), 2.0)
    size = int(parameters * width)
    return Weights(size, "estimated from its name", False, size)


def parameters_in(name: str) -> float | None:
    """The number of parameters that a name holds; the largest, since "8B-A1B" names two."""
    found = [
        int(m[1] or 1) * float(m[2]) * (1e9 if m[3].lower() == "b" else 1e6)
        for m in _PARAMETERS.finditer(name.rstrip("/").rsplit("/", 1)[-1])
    ]
    return max(found, default=None)
