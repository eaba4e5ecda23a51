"""pytest-vllm: does this vLLM image, or server, really serve this model? PYTEST_DONT_REWRITE.

Kept empty of imports on purpose: pytest imports the parent package of every plugin, so
whatever is imported here is paid for by every pytest run of the environment.
"""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-vllm")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
