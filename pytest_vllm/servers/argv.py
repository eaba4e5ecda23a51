"""ServerSpec -> the arguments of `vllm serve`, and how an image wants to be given them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_vllm.spec import ServerSpec

_MODULE = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True)
class Command:
    """An entrypoint to set (None keeps the image's own) and the words that follow it."""

    entrypoint: tuple[str, ...] | None
    words: tuple[str, ...]


def served_name(spec: ServerSpec) -> str:
    """The name that `/v1/models` must list: the user's `--served-model-name`, else the model.

    As for vLLM, the last one counts; of several names after it, any will do.
    """
    return value_of(spec.args, "--served-model-name") or spec.model


def value_of(args: Sequence[str], *names: str) -> str | None:
    """The value of a flag that the user gave; as for vLLM, the last one counts."""
    found = None
    for word, following in zip(args, (*args[1:], ""), strict=False):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") in names:
            found = value if equals else following
    return found


def without(args: Sequence[str], name: str) -> tuple[str, ...]:
    """The arguments without a flag and its value."""
    kept: list[str] = []
    is_value = False
    for word in args:
        flag, equals, _ = word.partition("=")
        if is_value and not word.startswith("--"):
            is_value = False
        elif flag.replace("_", "-") == name:
            is_value = not equals
        else:
            is_value = False
            kept.append(word)
    return tuple(kept)


def has_flag(args: Sequence[str], *names: str) -> bool:
    """Whether the user gave one of these flags, in either spelling (`-` or `_`)."""
    given = {word.partition("=")[0].replace("_", "-") for word in args if word.startswith("--")}
    return any(name in given for name in names)


def flags(spec: ServerSpec, model: str, *, host: str, port: int) -> tuple[str, ...]:
    """All `vllm serve` flags after the model; `model` is its name or path for the server.

    On a CPU, `--enforce-eager` is added unless the user chose: torch.compile needs a C++
    compiler there and makes a start 2.4–3.4 times as long (notes of the project).
    """
    words = [f"--host={host}", f"--port={port}"]
    if model != spec.model and not has_flag(spec.args, "--served-model-name"):
        words.append(f"--served-model-name={spec.model}")
    if spec.gpus is not None and spec.platform != "cpu":
        words.append(f"--tensor-parallel-size={spec.gpus}")
    if spec.gpu_util is not None:
        words.append(f"--gpu-memory-utilization={spec.gpu_util:g}")
    if spec.max_model_len is not None:
        words.append(f"--max-model-len={spec.max_model_len}")
    if spec.dtype is not None:
        words.append(f"--dtype={spec.dtype}")
    if spec.trust_remote_code:
        words.append("--trust-remote-code")
    if spec.platform == "cpu" and not has_flag(spec.args, "--enforce-eager", "--no-enforce-eager"):
        words.append("--enforce-eager")
    return (*words, *spec.args)


def serve(model: str, flags: Sequence[str]) -> tuple[str, ...]:
    """The words after `vllm`: `serve MODEL …`, the model first as vLLM now wants it."""
    return ("serve", model, *flags)


def module(model: str, flags: Sequence[str]) -> tuple[str, ...]:
    """The words after `python`: the older way in, which needs `--model`."""
    return ("-m", _MODULE, f"--model={model}", *flags)


#: Whichever the image has. Only inside it one can see that: below tini (`init`), a container
#: whose program is missing starts, and ends at once.
_EITHER = f"""
if command -v vllm >/dev/null; then exec vllm serve "$@"; fi
model=$1; shift
if command -v python3 >/dev/null; then exec python3 -m {_MODULE} --model="$model" "$@"; fi
echo "error: neither vllm nor python3 is on the PATH of this image" >&2; exit 127
"""


def command(entrypoint: Sequence[str] | None, model: str, flags: Sequence[str]) -> Command:
    """How to start the server in an image with this ENTRYPOINT.

    Images differ (rocm/vllm has none, vllm/vllm-openai `vllm serve`, older ones the module),
    and the wrong words end in `unrecognized arguments`. An entrypoint that is the server
    already is kept; anything else is replaced.
    """
    own = " ".join(entrypoint or ())
    if own.endswith("vllm serve"):
        return Command(None, serve(model, flags)[1:])
    if own.endswith("pytest-vllm/entrypoint.sh"):  # docker/entrypoint.sh takes the same words
        return Command(None, serve(model, flags)[1:])
    if own.endswith(_MODULE):
        return Command(None, module(model, flags)[2:])
    return Command(("/bin/sh", "-c", _EITHER, "vllm"), (model, *flags))


def environment(
    spec: ServerSpec, ours: Mapping[str, str], ready_timeout_s: float
) -> dict[str, str]:
    """Variables of the server; `ours` are the variables of this process.

    Hub settings and keys are handed on by name when they are set here. vLLM's own start
    limit follows ours, or it would give up after 600 s whatever we allow. The user's own
    `--vllm-env` wins over all of it.
    """
    handed_on = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_API_KEY")
    env = {name: ours[name] for name in handed_on if ours.get(name)}
    env |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    env["VLLM_ENGINE_READY_TIMEOUT_S"] = str(int(ready_timeout_s) + 60)
    if spec.is_known_answer or spec.local_path:
        env["HF_HUB_OFFLINE"] = "1"  # everything is on disk: never wait for a hub
    if spec.platform == "cpu" and spec.gpu_util is None:
        # GiB; vLLM's default takes most of the host's memory.
        env["VLLM_CPU_KVCACHE_SPACE"] = ours.get("VLLM_CPU_KVCACHE_SPACE", "1")
    if spec.platform == "cpu" and not has_flag(spec.args, "--no-enforce-eager"):
        # Eager or not, vLLM compiles the function that ranks logprobs, and a machine without a
        # C++ compiler loses its engine to the first request for logprobs.
        env["TORCHDYNAMO_DISABLE"] = "1"
    for name, value in spec.env:
        if value is not None:
            env[name] = value
        elif name in ours:
            env[name] = ours[name]
    return env
