"""Image and model: are they here, and can they come?"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vllm.models.memory import GIB
from pytest_vllm.preflight.finding import Finding
from pytest_vllm.preflight.memory import gib

if TYPE_CHECKING:
    from pytest_vllm.preflight.plan import Plan

#: Models that come from somewhere else than the Hugging Face hub.
_ELSEWHERE = ("--download-dir", "--load-format", "--model-loader-extra-config")


def image_is_there(plan: Plan) -> Iterator[Finding]:
    """An image that is not here and may not be pulled."""
    image, has = plan.spec.image, plan.machine.has_image
    if image and has and plan.machine.pull == "never" and not has(image):
        yield Finding(
            "refuse",
            "docker_image_missing",
            f"The image {image} is not on this machine, and --vllm-pull is `never`.",
            f"Get it with `docker pull {image}`, or take --vllm-pull missing "
            f"(docker run --pull missing).",
        )


def model_can_come(plan: Plan) -> Iterator[Finding]:
    """Offline, only what is in the cache can be served."""
    if _must_come(plan) and plan.environ.get("HF_HUB_OFFLINE", "").upper() in _YES:
        yield Finding(
            "warn",
            "hf_offline_not_cached",
            f"HF_HUB_OFFLINE is set, and {plan.spec.model} is not"
            f"{' complete' if plan.model.folder else ''} in {plan.cache_dir}.",
            f"Get it where there is a network (hf download {plan.spec.model}), or name "
            "another cache "
            "with --vllm-hf-cache (docker run -v DIR:/root/.cache/huggingface).",
        )


_YES = ("1", "ON", "YES", "TRUE")


def token_is_there(plan: Plan) -> Iterator[Finding]:
    """A gated model wants a token, which a container gets by HF_TOKEN only."""
    recipe = plan.model.recipe
    if not (recipe and recipe.gated) or not _must_come(plan) or plan.environ.get("HF_TOKEN"):
        return
    file = token_file(plan.machine.environ)
    if file is None:
        yield Finding(
            "warn",
            "hf_gated_no_token",
            f"{plan.spec.model} is gated, and there is no Hugging Face token.",
            f"Accept the licence at https://huggingface.co/{plan.spec.model}, then export HF_TOKEN "
            "(docker run -e HF_TOKEN).",
        )
    elif plan.spec.launcher == "docker":
        yield Finding(
            "warn",
            "hf_gated_no_token",
            f"{plan.spec.model} is gated, and the token in {file} does not reach a container.",
            f'export HF_TOKEN="$(cat {file})" (docker run -e HF_TOKEN).',
        )


def token_file(environ: Mapping[str, str]) -> Path | None:
    """The file in which `hf auth login` leaves a token, if it is there. It is not read."""
    home = environ.get("HOME") or str(Path.home())
    cache = environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
    hf_home = environ.get("HF_HOME") or f"{cache}/huggingface"
    path = Path(environ.get("HF_TOKEN_PATH") or f"{hf_home}/token").expanduser()
    return path if path.is_file() and path.stat().st_size else None


def disk_is_large_enough(plan: Plan) -> Iterator[Finding]:
    """What is still to be downloaded, against what is free where it goes."""
    if not _must_come(plan) or (weights := plan.model.weights) is None:
        return
    here = sum(f.stat().st_size for f in _blobs(plan))
    missing, free = weights.bytes - here, free_disk(plan.cache_dir)
    if missing > free:
        yield Finding(
            "warn",
            "disk_full",
            f"{plan.spec.model} is about {gib(missing)} to download ({weights.source}), "
            "and the disk "
            f"of {plan.cache_dir} has {gib(free)} free.",
            "Make room (hf cache ls; hf cache rm), or name a cache on a larger disk with "
            "--vllm-hf-cache (docker run -v DIR:/root/.cache/huggingface).",
            {"needed_gib": round(missing / GIB, 2), "free_gib": round(free / GIB, 2)},
        )


def _blobs(plan: Plan) -> list[Path]:
    """What is here of the model, also half of it."""
    folder = plan.cache_dir / f"models--{plan.spec.model.replace('/', '--')}" / "blobs"
    return [file for file in folder.glob("*") if file.is_file()]


def free_disk(folder: Path) -> int:
    """Bytes that are free where a folder is, or will be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _must_come(plan: Plan) -> bool:
    """Whether the weights are to be downloaded from the hub."""
    ours = plan.spec.is_known_answer or plan.spec.local_path is not None
    return not ours and not plan.model.complete and not any(plan.flag(f) for f in _ELSEWHERE)
