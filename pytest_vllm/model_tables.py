"""`[[tool.pytest-vllm.models]]` of pyproject.toml: settings that belong to one model.

    [[tool.pytest-vllm.models]]
    id = "deepseek-ai/DeepSeek-V3.1"
    gpus = 8
    args = ["--enable-expert-parallel"]
    env = { VLLM_ROCM_USE_AITER = "1" }

The keys are the names of the options of settings.py that may differ by model.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_vllm.errors import SettingsError
from pytest_vllm.settings import BY_NAME, OPTIONS, parse_value

_HEADER = "[[tool.pytest-vllm.models]]"


def read_model_tables(pyproject: Path) -> dict[str, dict[str, Any]]:
    """Read the models' own settings: model id -> {option name: parsed value}.

    Raises:
        SettingsError: The file is not TOML, or an entry has an unknown key or a wrong value.
    """
    if not pyproject.is_file():
        return {}
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        tool = tomllib.loads(pyproject.read_text(encoding="utf-8")).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{pyproject} is not valid TOML: {error}") from None
    section = tool.get("pytest-vllm", {})
    where = f"{pyproject}, [tool.pytest-vllm]"
    _known_keys(section, ("models",), where)
    entries = section.get("models", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SettingsError(f"{where}: models is no array of tables; write {_HEADER}")
    tables: dict[str, dict[str, Any]] = {}
    for entry in entries:
        model, values = _model_entry(entry, pyproject)
        if model in tables:
            raise SettingsError(f"{pyproject}, model {model}: it has two entries; join them")
        tables[model] = values
    return tables


def _model_entry(entry: Mapping[str, Any], path: Path) -> tuple[str, dict[str, Any]]:
    model = entry.get("id")
    if not isinstance(model, str) or not model:
        raise SettingsError(f"{path}: an entry of {_HEADER} has no id")
    where = f"{path}, model {model}"
    options = {o.name: o for o in OPTIONS if o.per_model}
    _known_keys(entry, ("id", "args", "env", *options), where)
    values = {
        key: parse_value(options[key], value, f"{where}, {key}")
        for key, value in entry.items()
        if key in options
    }
    values["arg"] = parse_value(BY_NAME["arg"], _args(entry, where), f"{where}, args")
    values["env"] = parse_value(BY_NAME["env"], _env_words(entry, where), f"{where}, env")
    return model, values


def _args(entry: Mapping[str, Any], where: str) -> list[Any]:
    args = entry.get("args", [])
    if not isinstance(args, list):
        raise SettingsError(f"{where}: args is not an array; write args = ['--flag=value']")
    return args


def _env_words(entry: Mapping[str, Any], where: str) -> list[str]:
    env = entry.get("env", {})
    if not isinstance(env, dict):
        raise SettingsError(f"{where}: env is not a table; write env = {{ NAME = 'value' }}")
    for name, value in env.items():
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise SettingsError(f"{where}: env {name} is not text; write {name} = '1'")
    return [f"{name}={value}" for name, value in env.items()]


def _known_keys(entry: Mapping[str, Any], allowed: Iterable[str], where: str) -> None:
    allowed = tuple(allowed)
    for key in entry:
        if key not in allowed:
            near = difflib.get_close_matches(key.replace("_", "-"), allowed, 1, 0.5)
            advice = f"did you mean {near[0]}?" if near else f"known are {', '.join(allowed)}"
            raise SettingsError(f"{where}: unknown key {key!r}; {advice}")
