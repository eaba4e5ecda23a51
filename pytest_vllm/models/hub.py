"""What the files of a model say, read from the Hugging Face cache or from a local directory.

No network and no huggingface_hub: the machine may be offline, and a running server answers
better than the hub. A file that is missing, cut short or not JSON reads as "not there".

    DIR/models--org--name/refs/main             the commit that `main` stood for
    DIR/models--org--name/snapshots/<commit>/   its files (links into blobs/)
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: JSON files that may hold a `chat_template`, in the order in which they are looked at. A
#: multimodal model has it with its processor; tokenizer_config.json is the usual place.
_JSON_HOLDERS = ("tokenizer_config.json", "chat_template.json", "processor_config.json")

#: For these architectures vLLM renders chat itself; the files need no Jinja template.
#: Source: vllm/config/model.py of 0.32, "Set default tokenizer modes based on architecture".
_RENDERED_BY_VLLM = frozenset(
    {
        "DeepseekV32ForCausalLM",
        "DeepseekV4ForCausalLM",
        "DeepseekV4ForConditionalGeneration",
        "DeepseekV41ForCausalLM",
        "InklingForCausalLM",
        "InklingForConditionalGeneration",
        "KimiK3ForConditionalGeneration",
        "MoonshotKimiaForCausalLM",
    }
)
#: For these model types vLLM ships a template. Source: vllm/transformers_utils/chat_templates,
#: 0.32, without the types that generate nothing (clip, colpali, siglip).
_TEMPLATE_SHIPPED_BY_VLLM = frozenset(
    {
        "blip-2",
        "deepseek_ocr",
        "deepseek_ocr2",
        "deepseek_vl_v2",
        "minicpmv",
        "minicpmv4_6",
        "minicpmv4_7",
        "paligemma",
        "unlimited-ocr",
        "unlimited_ocr",
    }
)


def default_cache_dir(environ: Mapping[str, str]) -> Path:
    """The directory that holds `models--…`, by the rules of huggingface_hub's constants.

    In this order: HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE (its old name), HF_HOME/hub,
    XDG_CACHE_HOME/huggingface/hub, ~/.cache/huggingface/hub. `~` and `$NAME` are replaced.
    """
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := environ.get(name):
            return _expand(value, environ)
    if home := environ.get("HF_HOME"):
        return _expand(home, environ) / "hub"
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expand(base, environ) / "huggingface" / "hub"


def _expand(text: str, environ: Mapping[str, str]) -> Path:
    """`~` and variables replaced, from `environ` and not from this process."""
    path = Template(text).safe_substitute(environ)
    if path == "~" or path.startswith("~/"):
        path = (environ.get("HOME") or str(Path.home())) + path[1:]
    return Path(path)


def snapshot(model: str, cache_dir: Path | None) -> Path | None:
    """The directory with the model's files; None when it is neither local nor in the cache.

    Args:
        model: Path of a directory, or Hugging Face id.
        cache_dir: The directory that holds `models--…`, or the one above its `hub`.
    """
    if not model:
        return None
    try:
        if (local := Path(model).expanduser()).is_dir():
            return local
        if cache_dir is None:
            return None
        folder = "models--" + model.replace("/", "--")
        entries = (cache_dir / folder, cache_dir / "hub" / folder)
        return next((found for entry in entries if (found := _checked_out(entry))), None)
    except (OSError, RuntimeError, ValueError):  # a name no file system takes, an unknown ~user
        return None


def _checked_out(entry: Path) -> Path | None:
    """The snapshot of `main`; without a `main` (a pinned revision), the only one there is."""
    snapshots = entry / "snapshots"
    if main := (_text(entry / "refs" / "main") or "").strip():
        return found if (found := snapshots / main).is_dir() else None
    there = [path for path in snapshots.iterdir() if path.is_dir()] if snapshots.is_dir() else []
    return there[0] if len(there) == 1 else None


def chat_template(path: Path) -> str | None:
    """Where the model's files hold a chat template, as a file name; None if nowhere."""
    if _text(path / "chat_template.jinja"):
        return "chat_template.jinja"
    for name in _JSON_HOLDERS:
        # A string, or a list of {"name": …, "template": …}.
        if _json(path / name).get("chat_template"):
            return name
    more = sorted(path.glob("additional_chat_templates/*.jinja"))
    return f"additional_chat_templates/{more[0].name}" if more else None


def rendered_by_vllm(path: Path) -> str | None:
    """Why vLLM can take chat requests for these files without a template; None if it cannot."""
    config = model_config(path)
    architectures = config.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        if isinstance(name, str) and name in _RENDERED_BY_VLLM:
            return f"vLLM renders chat for {name} itself"
    kind = config.get("model_type")
    if isinstance(kind, str) and kind in _TEMPLATE_SHIPPED_BY_VLLM:
        return f"vLLM ships a chat template for model type {kind}"
    # mistral-common renders for whatever comes with its kind of tokenizer.
    for found in (*path.glob("tekken.json"), *path.glob("tokenizer.model.v*")):
        return f"{found.name}: mistral-common renders chat"
    return None


def has_tokenizer(path: Path) -> bool:
    """Whether the tokenizer's settings are there, so that "no template" means something."""
    return bool(_json(path / "tokenizer_config.json"))


def model_config(path: Path) -> dict[str, object]:
    """The model's `config.json`; empty when there is none that can be read."""
    return _json(path / "config.json")


def _json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
