"""What is known of some models before they are served: recipes.toml, as objects.

A recipe holds the flags that a model needs, and its size. It is the weakest of all sources:
whatever the user says wins (recipe_use.py lays it under the settings). GPU counts are for
MI300X, of 192 GB each.

    >>> recipe_for("deepseek-ai/DeepSeek-V3.1").gpus
    8
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import SettingsError

if TYPE_CHECKING:
    from pytest_vllm.models.names import Kind

TABLE = Path(__file__).with_name("recipes.toml")

#: Bytes per weight. 4-bit formats keep a scale for every 16 to 32 weights, and some layers whole.
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "mxfp4": 0.56, "int4": 0.56}

_GIB = 1024**3

_NEEDED = frozenset({"id", "params_b", "kind", "source"})
_OPTIONAL = frozenset(
    {
        *("precision", "gpus", "gpu_util", "max_model_len", "dtype", "trust_remote_code"),
        *("tool_parser", "reasoning_parser", "args", "env", "gated", "min_vllm", "mi300x"),
        *("weights_gib",),
    }
)


@dataclass(frozen=True)
class Recipe:
    """One model of recipes.toml.

    Attributes:
        model: Hugging Face id.
        params_b: Parameters, in 1e9; all of them, not only the active ones.
        kind: `chat`, `base`, or `unknown` for what generates no text.
        source: Where the row comes from; it says so where something is a guess.
        precision: Number format of the published weights, a key of `BYTES`.
        gpus: MI300X to serve it on; None where one does and nothing needs to be said.
        gpu_util: Share of each GPU's memory; None leaves it to vLLM.
        max_model_len: Longest context, in tokens; None leaves it to vLLM.
        dtype: For `--dtype`; None leaves it to vLLM.
        trust_remote_code: Whether the repository's own Python code is needed.
        args: `vllm serve` arguments, parsers among them.
        env: (name, value) pairs for the server.
        gated: Whether the hub wants a licence accepted first; None if not known.
        min_vllm: First release that serves it, "" if not known.
        mi300x: `verified` or `unsupported` by vLLM's recipes, else "".
        weights_gib: Size of the weights where it is known; see `size_gib`.
    """

    model: str
    params_b: float
    kind: Kind
    source: str
    precision: str = "bf16"
    gpus: int | None = None
    gpu_util: float | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    gated: bool | None = None
    min_vllm: str = ""
    mi300x: str = ""
    weights_gib: float | None = None

    @property
    def size_gib(self) -> float:
        """Size of the weights: as known, else estimated as parameters × bytes of the format."""
        if self.weights_gib is not None:
            return self.weights_gib
        return round(self.params_b * 1e9 * BYTES[self.precision] / _GIB, 2)


def recipe_for(model: str) -> Recipe | None:
    """The recipe of a model, by its id in any case, or by a path that ends in the id.

    A path of the Hugging Face cache (`models--org--name/snapshots/…`) counts as its id. A
    quantised copy under another name has no recipe: its flags and its size may differ.
    """
    cached = re.search(r"models--([^/]+?)--([^/]+)/snapshots/", model)
    words = [cached[1], cached[2]] if cached else model.rstrip("/").split("/")
    return _by_id().get("/".join(words[-2:]).lower())


def all_recipes() -> tuple[Recipe, ...]:
    """Every recipe, in the order of the file."""
    return tuple(_by_id().values())


@lru_cache(maxsize=1)
def _by_id() -> dict[str, Recipe]:
    return {recipe.model.lower(): recipe for recipe in read(TABLE)}


def read(path: Path) -> tuple[Recipe, ...]:
    """Read a file of recipes.

    Raises:
        SettingsError: A row is wrong; with the file, the row and what is the matter with it.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8"))["model"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: no table of recipes: {error!r}") from None
    return tuple(_recipe(row, f"{path}, recipe {n}") for n, row in enumerate(rows, start=1))


def _recipe(row: dict[str, Any], where: str) -> Recipe:
    where = f"{where} ({row.get('id', 'without an id')})"
    if missing := sorted(_NEEDED - row.keys()):
        raise SettingsError(f"{where}: {missing[0]} is missing")
    if unknown := sorted(row.keys() - _NEEDED - _OPTIONAL):
        raise SettingsError(f"{where}: unknown key {unknown[0]!r}")
    if (precision := row.get("precision", "bf16")) not in BYTES:
        raise SettingsError(f"{where}: precision {precision!r} is not one of {', '.join(BYTES)}")
    own = {key: value for key, value in row.items() if key not in ("id", *_MADE_INTO_ARGS)}
    return Recipe(
        model=row["id"],
        **(own | {"args": _args(row), "env": tuple(row.get("env", {}).items())}),
    )


_MADE_INTO_ARGS = ("tool_parser", "reasoning_parser")


def _args(row: dict[str, Any]) -> tuple[str, ...]:
    """The parsers as flags, then the rest.

    Both are on by default: without them a model that thinks or calls tools answers with its
    raw marks, and `tool_choice: auto` is refused.
    """
    words = []
    if tool := row.get("tool_parser"):
        words += ["--enable-auto-tool-choice", f"--tool-call-parser={tool}"]
    if reasoning := row.get("reasoning_parser"):
        words.append(f"--reasoning-parser={reasoning}")
    return (*words, *row.get("args", ()))
