"""What is about to be started, and where: the facts that all checks share, each found once."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vllm.models import hub
from pytest_vllm.models.kv_cache import KvCache
from pytest_vllm.models.memory import GIB, Model, dtype_bytes, look_up
from pytest_vllm.servers import argv, devices
from pytest_vllm.servers.holders import Names, docker_names

if TYPE_CHECKING:
    from pytest_vllm.servers.devices import Gpu
    from pytest_vllm.spec import ServerSpec

#: vLLM's own share of the GPU memory: 0.92 since its pull request 38284 of 2026, 0.9 before.
DEFAULT_UTIL = 0.92

#: The variables that choose GPUs, in the order in which they are applied.
VISIBLE = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Machine:
    """Where it is to run, and how we ask.

    Attributes:
        root: Below it lie `sys`, `proc` and `dev`.
        environ: Our variables.
        pull: When the image is pulled.
        has_image: Whether the container engine has an image; None where nobody can say.
        name_of: Container id -> name.
    """

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    pull: str = "missing"
    has_image: Callable[[str], bool] | None = None
    name_of: Names = docker_names


class Plan:
    """A spec on a machine."""

    def __init__(self, spec: ServerSpec, machine: Machine) -> None:
        self.spec = spec
        self.machine = machine
        self.environ = _server_environ(spec, machine)

    def flag(self, *names: str) -> str | None:
        """The value of a `vllm serve` flag among the user's own arguments."""
        return argv.value_of(self.spec.args, *names)

    def count(self, default: int, *names: str) -> int:
        """The same as a number."""
        value = self.flag(*names) or ""
        return int(value) if value.isdecimal() else default

    @cached_property
    def tp(self) -> int:
        """Tensor parallel size: vLLM takes one GPU where nobody says more."""
        given = None if self.spec.platform == "cpu" else self.spec.gpus  # as argv.flags does
        return self.count(given or 1, "--tensor-parallel-size", "-tp")

    @cached_property
    def world(self) -> int:
        """GPUs of one copy of the model."""
        return self.tp * self.count(1, "--pipeline-parallel-size", "-pp")

    @cached_property
    def util(self) -> float:
        """The share of each GPU's memory that vLLM will take."""
        said = self.flag("--gpu-memory-utilization")
        return float(said) if said else self.spec.gpu_util or DEFAULT_UTIL

    @property
    def util_said(self) -> str:
        """For people: the share, and whose it is."""
        asked = self.spec.gpu_util or self.flag("--gpu-memory-utilization")
        return f"{self.util:g}" if asked else f"{self.util:g}, vLLM's default"

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on GPUs that we can see: not on those of another machine."""
        remote = not self.machine.environ.get("DOCKER_HOST", "unix:").startswith("unix:")
        return self.spec.platform in ("rocm", "cuda") and not (
            remote and self.spec.launcher == "docker"
        )

    @cached_property
    def all_gpus(self) -> list[Gpu]:
        """Every GPU of this machine that the server could get."""
        if not self.on_gpu:
            return []
        if self.spec.platform == "cuda":
            from pytest_vllm.servers import nvidia

            return self._visible(nvidia.gpus())
        return self._visible(devices.amd_gpus(self.machine.root))

    def _visible(self, every: list[Gpu]) -> list[Gpu]:
        """Those that the variables leave, in their order; only the process launcher inherits."""
        for name in VISIBLE:
            words = (self.environ.get(name) or "").split(",")
            if all(word.strip().isdecimal() for word in words):
                every = [every[int(word)] for word in words if int(word) < len(every)]
        return every

    @cached_property
    def gpus(self) -> list[Gpu]:
        """Those that it will use."""
        wanted = self.spec.gpus
        if self.spec.launcher == "docker" and wanted and wanted <= len(self.all_gpus):
            return devices.chosen(self.all_gpus, wanted)[: self.world]
        return self.all_gpus[: self.world]

    @property
    def gpu_bytes(self) -> int | None:
        """Memory of the smallest of them, None where the driver does not say."""
        totals = [gpu.total for gpu in self.gpus or self.all_gpus if gpu.total]
        return min(totals, default=None)

    @cached_property
    def cache_dir(self) -> Path:
        """The folder that holds `models--…`; nothing is made."""
        if self.spec.hf_cache is None:
            return hub.default_cache_dir(self.machine.environ)
        path = Path(self.spec.hf_cache).expanduser()
        return path if any(path.glob("models--*")) else path / "hub"

    @cached_property
    def model(self) -> Model:
        """What is known of the model."""
        if self.spec.is_known_answer:
            from pytest_vllm.models import known_answer

            name = str(known_answer.build(self.spec.model))
        else:
            name = str(self.spec.local_path or self.spec.model)
        return look_up(name, self.cache_dir, self.dtype)

    @property
    def dtype(self) -> str | None:
        """`--dtype`, where the user gave it."""
        return self.flag("--dtype") or self.spec.dtype

    @cached_property
    def length(self) -> int | None:
        """The longest context, in tokens; None where nobody knows."""
        said = self.flag("--max-model-len")
        if said is not None:
            return int(said) if said.isdecimal() else None  # "32k", or -1: as long as fits
        known = self.model.geometry
        return self.spec.max_model_len or (known.max_len or None if known else None)

    @cached_property
    def kv_cache(self) -> KvCache | None:
        """The KV cache of one GPU; None where the model's geometry is unknown."""
        if (known := self.model.geometry) is None:
            return None
        on_cpu = self.spec.platform == "cpu"
        block = 128 if on_cpu and known.latent is None else 16
        width = float(dtype_bytes({}, self.dtype))
        if (self.flag("--kv-cache-dtype") or "").startswith(("fp8", "int8")):
            width = 1.0
        return KvCache(
            known,
            self.tp,
            width,
            self.count(block, "--block-size"),
            self.count(self._batched_tokens(), "--max-num-batched-tokens"),
            steps=1 if on_cpu else 2,
        )

    def _batched_tokens(self) -> int:
        """vLLM's default for a server: by the size of the GPU (engine/arg_utils.py of 0.32)."""
        if self.spec.platform == "cpu":
            return 2048
        total = self.gpu_bytes or 0
        return 16384 if total >= 160 * GIB else 8192 if total >= 70 * GIB else 2048


def _server_environ(spec: ServerSpec, machine: Machine) -> dict[str, str]:
    """The server's variables; a container inherits none but those that are handed on."""
    ours = machine.environ
    made = argv.environment(spec, ours, 0)
    return {**ours, **made} if spec.launcher == "process" else made
