"""ServerSpec: everything that decides which server is started, as one hashable value.

Two tests share a server exactly when their specs are equal. What only changes how we get
there or what is reported (pull policy, time-outs, log folder) is not part of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

#: The names of the built-in checkpoints start with this (DESIGN section 5).
KNOWN_ANSWER_PREFIX = "known-answer/"

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|API_KEY|CREDENTIAL", re.IGNORECASE)


@dataclass(frozen=True)
class ServerSpec:
    """One server to start, or one that already runs (`url`).

    Attributes:
        model: Hugging Face id, local path, or `known-answer/…`, as the user wrote it.
        launcher: `docker`, `process` or `external`.
        url: Base URL of a server that already runs; then nothing is started.
        image: Container image reference, with a tag.
        platform: `rocm`, `cuda` or `cpu`.
        python: Interpreter of a local vLLM, for the process launcher.
        gpus: Number of GPUs, which is also the tensor parallel size; None leaves both alone.
        gpu_util: Fraction of each GPU's memory that vLLM may use (0–1].
        max_model_len: Longest context, in tokens.
        args: Further `vllm serve` arguments, passed through as they are.
        env: (name, value) pairs; a value of None takes the caller's own variable, by name.
        hf_cache: The directory that holds `models--…`; mounted into a container.
        kind: `chat` or `base` where the user says so, else None.
    """

    model: str
    launcher: str = "docker"
    url: str | None = None
    image: str | None = None
    platform: str = "rocm"
    python: str | None = None
    gpus: int | None = None
    gpu_util: float | None = None
    max_model_len: int | None = None
    dtype: str | None = None
    trust_remote_code: bool = False
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str | None], ...] = field(default=(), repr=False)  # may hold secrets
    hf_cache: str | None = None
    kind: str | None = None

    @property
    def is_known_answer(self) -> bool:
        """Whether the model is one of the built-in checkpoints."""
        return self.model.startswith(KNOWN_ANSWER_PREFIX)

    @property
    def local_path(self) -> Path | None:
        """The model's directory, when the user gave a path and not a Hugging Face id.

        On a server that already runs, the model is only a name.
        """
        if self.is_known_answer or self.url is not None:
            return None
        looks_like_path = self.model.startswith(("/", "./", "../", "~"))
        path = Path(self.model).expanduser()
        return path.resolve() if looks_like_path or path.is_dir() else None

    @property
    def id(self) -> str:
        """The id in test names: stable, whatever other models the run has."""
        path = self.local_path
        return path.name if path else self.model

    def signature(self) -> str:
        """16 hex digits that change with anything that makes it another server.

        Values of variables that look like secrets do not enter: the signature becomes a
        container label, which anybody on the machine can read.
        """
        facts = asdict(self) | {"env": [(k, None if _SECRET.search(k) else v) for k, v in self.env]}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
