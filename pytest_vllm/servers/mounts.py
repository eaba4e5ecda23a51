"""Which folders a container sees: the model, the Hugging Face cache, vLLM's own cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import LaunchError
from pytest_vllm.models import hub

if TYPE_CHECKING:
    from docker.models.images import Image

    from pytest_vllm.spec import ServerSpec


@dataclass(frozen=True)
class Mounts:
    """The name or path of the model inside, and volumes and variables that make it so."""

    model: str
    volumes: dict[str, dict[str, str]] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def mounts_for(spec: ServerSpec, image: Image) -> Mounts:
    """Decide the mounts of a container of this image."""
    model, model_volumes = _model(spec)
    home = _home(image)
    hf_home = _image_env(image).get("HF_HOME") or f"{home}/.cache/huggingface"
    volumes = model_volumes | {str(hub_dir(spec)): {"bind": f"{hf_home}/hub", "mode": "rw"}}
    env = {"HF_HOME": hf_home, "HF_HUB_CACHE": f"{hf_home}/hub"}
    if home == "/root":
        # An empty model-info cache alone makes every start 1.75 times as long. The volume is
        # named after the image, since caches of another build are useless to it. A named
        # volume belongs to root: other users could not write it.
        cache = f"pytest-vllm-cache-{str(image.id).removeprefix('sha256:')[:12]}"
        volumes[cache] = {"bind": f"{home}/.cache/vllm", "mode": "rw"}
        env["VLLM_CACHE_ROOT"] = f"{home}/.cache/vllm"
    return Mounts(model, volumes, env)


def hub_dir(spec: ServerSpec, environ: Mapping[str, str] = os.environ) -> Path:
    """The host folder that holds `models--…`, made if it is not there.

    `--vllm-hf-cache` may name that folder, or the one above it (HF_HOME), which has `hub/`.

    Raises:
        LaunchError: It cannot be made.
    """
    if spec.hf_cache is None:
        path = hub.default_cache_dir(environ)
    else:
        path = Path(spec.hf_cache).expanduser().resolve()
        if not any(path.glob("models--*")):
            path = path / "hub"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(
            f"The Hugging Face cache {path} could not be made: {error}.\n"
            "Choose another folder with --vllm-hf-cache."
        ) from None
    return path.resolve()


def model_dir(spec: ServerSpec) -> Path | None:
    """The model's folder on this machine, built now for a known-answer model; None for an id."""
    if spec.is_known_answer:
        from pytest_vllm.models import known_answer

        return known_answer.build(spec.model)
    return spec.local_path


def _model(spec: ServerSpec) -> tuple[str, dict[str, dict[str, str]]]:
    path = model_dir(spec)
    if path is None:
        return spec.model, {}
    # A snapshot of the Hugging Face cache is a folder of links to `../../blobs`.
    mounted = path.parents[1] if path.parent.name == "snapshots" else path
    inside = PurePosixPath("/models", mounted.name)
    volumes = {str(mounted): {"bind": str(inside), "mode": "ro"}}
    return str(inside / path.relative_to(mounted)), volumes


def _image_env(image: Image) -> dict[str, str]:
    words: list[str] = (_config(image).get("Env")) or []
    return dict(word.split("=", 1) for word in words if "=" in word)


def _home(image: Image) -> str:
    user = str(_config(image).get("User") or "root").split(":")[0]
    if user in ("root", "0"):
        return "/root"
    return _image_env(image).get("HOME", "/tmp")  # noqa: S108 - the one place anybody may write


def _config(image: Image) -> dict[str, Any]:
    return image.attrs.get("Config") or {}
