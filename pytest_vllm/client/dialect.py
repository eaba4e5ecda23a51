"""Which server speaks: vLLM, since which version, or another one.

A few rules are vLLM's own promises, or changed between its versions; checks ask here. Everything
else holds for every OpenAI-compatible server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Dialect"]

#: What a vLLM without a readable version is taken for: the newest.
_NEWEST = (999, 0)


@dataclass(frozen=True)
class Dialect:
    """The server's kind. `vllm` is its (major, minor), or None for another server."""

    vllm: tuple[int, int] | None = None

    @classmethod
    def of(cls, version: str, *, is_vllm: bool) -> Dialect:
        """Read a version such as `0.32.0`, `0.10.1.dev3+g123` or "" (unknown: the newest)."""
        if not is_vllm:
            return cls(None)
        found = re.match(r"v?(\d+)\.(\d+)", version)
        return cls((int(found[1]), int(found[2])) if found else _NEWEST)

    @property
    def is_vllm(self) -> bool:
        """Whether it is vLLM, any version."""
        return self.vllm is not None

    def since(self, major: int, minor: int) -> bool:
        """Whether it is vLLM of at least this version."""
        return self.vllm is not None and self.vllm >= (major, minor)
