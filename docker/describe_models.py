"""Let vLLM describe its model classes into its cache, before any server starts.

At its first start with a model, vLLM imports that model's class in a process of its own and
keeps what it learnt in VLLM_CACHE_ROOT/modelinfos. A fresh container has an empty cache, and
so loses those 15 to 20 seconds at every start. Here all classes are described in one process,
in about as much time as one would take. vLLM checks each entry against a hash of the source
file, so an entry can be missing or stale, but not wrong.

`_run_in_subprocess` is a private name of the pinned vLLM. If it goes, nothing is described,
and servers start as slowly as they would have anyway: so nothing here fails an installation.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def main() -> int:
    """Describe what can be imported here; the rest (image and audio models) stays undescribed."""
    try:
        registry = importlib.import_module("vllm.model_executor.models.registry")
    except ImportError as error:
        print(f"Model classes not described: {error}")
        return 0
    logging.disable(logging.WARNING)
    vars(registry)["_run_in_subprocess"] = here
    models = registry.ModelRegistry.models.values()
    known = sum(described(model) for model in models)
    print(f"{known} of {len(models)} model classes described")
    return 0


def here(function: Callable[[], T]) -> T:
    """Call it in this process: there is no GPU here that must stay uninitialised."""
    return function()


def described(model: Any) -> bool:
    """Tell whether one class could be described; some need packages that the lock leaves out."""
    try:
        model.inspect_model_cls()
    except Exception:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
