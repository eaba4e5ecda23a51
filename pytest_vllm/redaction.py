"""Secrets stay out of everything that is shown or written, also where a server quotes them."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Variables whose values are never shown.
_SECRETS = ("VLLM_API_KEY", "HF_TOKEN")


def redact(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The text with each secret replaced by the name of its variable, as `$VLLM_API_KEY`."""
    for name in _SECRETS:
        if value := environ.get(name):
            text = text.replace(value, f"${name}")
    return text
