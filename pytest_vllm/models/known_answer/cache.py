"""Puts a known-answer checkpoint on disk, once, and finds it again.

The folder's name holds a hash of every byte in it, so a change of the construction never meets
an old folder. It is written beside its place and renamed: whoever sees it, sees it complete, and
of two processes that build at once the second finds the first one's work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from pytest_vllm.models.known_answer.files import text_files
from pytest_vllm.models.known_answer.recipe import recipe
from pytest_vllm.models.known_answer.weights import safetensors, tensors

__all__ = ["FORMAT", "build", "cache_directory"]

FORMAT = 2
"""Goes up when the meaning of a checkpoint changes: new ids, another formula."""


def build(name: str, directory: Path | None = None) -> Path:
    """Return the folder of this checkpoint, building it (about 10 MB, under a second) if needed.

    `directory` holds the folders; by default the user's cache. Everybody may read the files:
    they are mounted into containers that run as somebody else.

    Raises UnknownKnownAnswerError, and OSError where the cache cannot be written.
    """
    chosen = recipe(name)
    files = {**text_files(chosen), "model.safetensors": safetensors(tensors(chosen))}
    final = (directory or cache_directory()) / f"{name.split('/')[-1]}-{FORMAT}-{_digest(files)}"
    if not final.is_dir():
        _write(files, final)
    return final


def cache_directory() -> Path:
    """Return `$XDG_CACHE_HOME/pytest-vllm/known-answer` (`~/.cache/...` when unset)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pytest-vllm" / "known-answer"


def _digest(files: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, data in sorted(files.items()):
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return digest.hexdigest()[:12]


def _write(files: dict[str, bytes], final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        for name, data in files.items():
            (draft / name).write_bytes(data)
            (draft / name).chmod(0o644)
        draft.chmod(0o755)
        draft.rename(final)
    except OSError:
        # Renaming onto a folder with files fails: somebody else was quicker.
        if not final.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
