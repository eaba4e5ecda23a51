"""Settings -> ServerSpecs: one per model, each with its own table laid over the ini file.

Nothing is looked up on the machine here: `auto` stays `auto` until a server is really wanted,
so that collecting tests, also in xdist workers, never talks to Docker.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_vllm.errors import SettingsError
from pytest_vllm.models import known_answer
from pytest_vllm.settings import DEFAULT_MODEL, Settings
from pytest_vllm.spec import KNOWN_ANSWER_PREFIX, ServerSpec

_Tables = Mapping[str, Mapping[str, Any]]

#: Options that describe a server, under the names that ServerSpec has for them.
_FIELDS: tuple[str, ...] = (
    "launcher",
    "python",
    "image",
    "platform",
    "gpus",
    "gpu_util",
    "max_model_len",
)
_FIELDS += ("dtype", "trust_remote_code", "hf_cache", "kind")


def specs_from(settings: Settings, tables: _Tables) -> tuple[ServerSpec, ...]:
    """Make one spec per model, in the user's order; equal ones once."""
    if settings["url"]:
        _refuse_what_a_running_server_ignores(settings)
        models = settings["model"] or ("",)
    else:
        models = settings["model"] or (DEFAULT_MODEL,)
    return tuple(dict.fromkeys(spec_for(m, settings, tables.get(m, {})) for m in models))


def spec_for(model: str, settings: Settings, table: Mapping[str, Any]) -> ServerSpec:
    """Make the spec of one model.

    Raises:
        SettingsError: There is no such known-answer model, or nothing at that path.
    """
    if not settings["url"]:
        _refuse_what_is_not_there(model)
    values = {field: _value(settings, table, field.replace("_", "-")) for field in _FIELDS}
    if settings["url"]:
        values["launcher"] = "external"
    return ServerSpec(
        model=model,
        url=settings["url"],
        args=(*table.get("arg", ()), *settings["arg"]),
        env=tuple({**dict(table.get("env", ())), **dict(settings["env"])}.items()),
        **(values | {"trust_remote_code": bool(values["trust_remote_code"])}),
    )


def _refuse_what_is_not_there(model: str) -> None:
    if model.startswith(KNOWN_ANSWER_PREFIX) and model not in known_answer.NAMES:
        raise SettingsError(f"{model}: there are {', '.join(known_answer.NAMES)}")
    if model.startswith(("/", "./", "../", "~")) and not Path(model).expanduser().exists():
        raise SettingsError(f"--vllm-model {model}: there is nothing at this path")


def _refuse_what_a_running_server_ignores(settings: Settings) -> None:
    """A report must not state what was asked for where nothing was started with it."""
    for name in ("image", "gpus", "gpu-util", "max-model-len", "trust-remote-code", "arg", "env"):
        if settings.source(name) == "cli":
            raise SettingsError(f"--vllm-{name} has no effect with --vllm-url: nothing is started")


def _value(settings: Settings, table: Mapping[str, Any], name: str) -> Any:
    if name in table and settings.source(name) not in ("cli", "env"):
        return table[name]
    return settings[name]
