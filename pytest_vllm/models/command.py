"""`python -m pytest_vllm models`: what is known of models before any server runs; offline."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from pytest_vllm.models import hub
from pytest_vllm.models.capabilities import by_files, by_name
from pytest_vllm.models.recipes import Recipe, all_recipes, recipe_for

#: A rough estimate, not a promise: a minute for the engine to start and to compile, and weights
#: from a local NVMe disk at 1 GiB/s. A first download comes on top.
_ENGINE_S = 60
_LOAD_GIB_S = 1.0


def main(arguments: Sequence[str]) -> int:
    """Print what is known of the models named, or of all that have a recipe; returns 0."""
    options = _parser().parse_args(arguments)
    ids = options.ids or [recipe.model for recipe in all_recipes()]
    facts = [facts_of(model) for model in ids]
    print(json.dumps(facts, ensure_ascii=False, indent=1) if options.json else _table(facts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_vllm models",
        description="Say what is known of models, offline: chat or base, size, GPUs, start time.",
    )
    parser.add_argument(
        "ids", nargs="*", metavar="ID", help="Hugging Face ids or folders; all recipes if none"
    )
    parser.add_argument("--json", action="store_true", help="Print a JSON list")
    return parser


def facts_of(model: str) -> dict[str, Any]:
    """What is known of one model, as `--json` shows it.

    Its files decide whether it chats, where they are on this machine; then a recipe; then its
    name. `gpus` counts MI300X of 192 GB; `start_s` is an estimate.
    """
    recipe = recipe_for(model)
    kind, decided_by, evidence = _kind(model, recipe)
    size = recipe.size_gib if recipe else None
    return {
        "id": model,
        "kind": kind,
        "decided_by": decided_by,
        "evidence": evidence,
        "size_gib": size,
        "gpus": (recipe.gpus or 1) if recipe else None,
        "gpu_util": recipe.gpu_util if recipe else None,
        "start_s": round(_ENGINE_S + size / _LOAD_GIB_S) if size is not None else None,
        "args": list(recipe.args) if recipe else [],
        "gated": recipe.gated if recipe else None,
    }


def _kind(model: str, recipe: Recipe | None) -> tuple[str, str, str]:
    if verdict := by_files(model, hub.default_cache_dir(os.environ)):
        return verdict.kind, verdict.decided_by, verdict.evidence
    if recipe:
        return recipe.kind, "recipe", f"recipes.toml, from {recipe.source}"
    verdict = by_name(model)
    return verdict.kind, verdict.decided_by, verdict.evidence


def _table(facts: list[dict[str, Any]]) -> str:
    rows = [("model", "kind", "decided by", "weights", "GPUs", "start (estimate)")]
    for fact in facts:
        size, start = fact["size_gib"], fact["start_s"]
        rows.append(
            (
                fact["id"],
                fact["kind"],
                fact["decided_by"],
                "-" if size is None else f"{size:.0f} GiB",
                str(fact["gpus"] or "-"),
                "-" if start is None else f"{max(1, round(start / 60))} min",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
