"""The one table of options: command line = environment variable = ini key, with parser and help.

`OPTIONS` is the only place where an option is named, so that the three ways of giving it,
`pytest --help` and docs/options.md cannot drift. The command line beats the environment, the
environment beats the model's own table in pyproject.toml, and that beats the ini file.

Imported by every pytest run of the environment: nothing here but the standard library.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pytest_vllm.errors import SettingsError
from pytest_vllm.parsers import (
    Parser,
    argument,
    count,
    duration,
    flag,
    fraction,
    nonempty,
    one_of,
    url,
    variable,
)

DEFAULT_MODEL = "facebook/opt-125m"


@dataclass(frozen=True)
class Option:
    """One row of the table.

    `per_model` options may also stand in a `[[tool.pytest-vllm.models]]` table.
    """

    name: str
    parse: Parser
    help: str
    metavar: str | None = None
    default: Any = None
    many: bool = False
    per_model: bool = False

    @property
    def cli(self) -> str:
        """`--vllm-gpu-util`."""
        return f"--vllm-{self.name}"

    @property
    def ini(self) -> str:
        """`vllm_gpu_util`, which is also the attribute that pytest stores the option under."""
        return f"vllm_{self.name.replace('-', '_')}"

    @property
    def env(self) -> str:
        """`VLLM_TEST_GPU_UTIL`."""
        return f"VLLM_TEST_{self.name.replace('-', '_').upper()}"

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no value on the command line."""
        return self.parse is flag


OPTIONS: tuple[Option, ...] = (
    Option(
        "model",
        nonempty,
        f"Model to serve and test: a Hugging Face id, a local path or known-answer/base, "
        f"/context, /chat. May be repeated. Default of the suite: {DEFAULT_MODEL}",
        "MODEL",
        many=True,
    ),
    Option(
        "url",
        url,
        "Test the server that already runs at this address; nothing is started. "
        "Its key is read from VLLM_API_KEY",
        "URL",
    ),
    Option(
        "launcher",
        one_of("auto", "docker", "process"),
        "How to start the server: docker, process (a local vLLM), or auto, which takes Docker "
        "if an engine answers, else a local vLLM",
        "auto|docker|process",
        "auto",
    ),
    Option(
        "python",
        nonempty,
        "Python interpreter that has vLLM, for the process launcher. Default: this one",
        "PATH",
    ),
    Option(
        "image",
        nonempty,
        "Container image. Default: the official vLLM image of the platform, at a pinned version",
        "IMAGE",
        per_model=True,
    ),
    Option(
        "platform",
        one_of("auto", "rocm", "cuda", "cpu"),
        "What to serve on; auto looks for AMD, then NVIDIA devices, else takes the CPU",
        "auto|rocm|cuda|cpu",
        "auto",
        per_model=True,
    ),
    Option(
        "pull",
        one_of("missing", "always", "never"),
        "When to pull the image",
        "missing|always|never",
        "missing",
    ),
    Option(
        "gpus",
        count,
        "Number of GPUs, which is also the tensor parallel size",
        "N",
        per_model=True,
    ),
    Option(
        "gpu-util",
        fraction,
        "Share of each GPU's memory that vLLM may use, above 0 and at most 1",
        "F",
        per_model=True,
    ),
    Option("max-model-len", count, "Longest context, in tokens", "N", per_model=True),
    Option("dtype", nonempty, "Number format of weights and activations", "DTYPE", per_model=True),
    Option(
        "trust-remote-code",
        flag,
        "Let the model's repository run its own Python code in the server",
        per_model=True,
    ),
    Option(
        "arg",
        argument,
        "Further argument of `vllm serve`, passed through: --vllm-arg=--max-num-seqs=4. "
        "May be repeated",
        "ARG",
        many=True,
    ),
    Option(
        "env",
        variable,
        "Variable for the server: NAME=VALUE, or NAME to hand on our own. May be repeated",
        "NAME[=VALUE]",
        many=True,
    ),
    Option(
        "hf-cache",
        nonempty,
        "Hugging Face cache that the server uses. Default: as huggingface_hub decides",
        "DIR",
    ),
    Option(
        "kind",
        one_of("auto", "chat", "base"),
        "Whether the model chats; auto asks the server",
        "auto|chat|base",
        "auto",
        per_model=True,
    ),
    Option(
        "startup-timeout",
        duration,
        "Longest time from start to ready, image pull not counted: seconds, or 90s, 10m, 1.5h. "
        "Default: 30m",
        "TIME",
        1800.0,
    ),
    Option(
        "stall-timeout",
        duration,
        "Longest time in a start without a new log line or a growing download. Default: 10m",
        "TIME",
        600.0,
    ),
    Option(
        "preflight",
        one_of("on", "off"),
        "Look before a start whether it can work: warn with numbers, refuse only what cannot",
        "on|off",
        "on",
    ),
    Option(
        "auto-adjust",
        flag,
        "After a start that was refused for want of memory, apply the computed remedy once",
    ),
    Option("strict", flag, "Let failures of optional checks fail the run"),
    Option(
        "concurrency",
        count,
        "Tests that may run ahead of their turn, at the same time, where they need nothing but "
        "an Api. 1: one after another. Default: 16",
        "N",
        16,
    ),
    Option(
        "log-dir",
        nonempty,
        "Where the server logs go. Default: a new folder in the system's temporary folder",
        "DIR",
    ),
    Option("results", nonempty, "Write the results as JSON to this file", "FILE"),
    Option(
        "lang",
        one_of("auto", "en", "zh"),
        "Language of the summary; auto follows the locale",
        "auto|en|zh",
        "auto",
    ),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}


@dataclass(frozen=True)
class Given:
    """A value, and where it came from: `cli`, `env`, `ini` or `default`."""

    value: Any
    source: str


class Settings:
    """What the user asked for, looked up by option name: `settings["gpu-util"]`.

    Raises:
        SettingsError: On the first wrong value, naming the option, its source and the remedy.
    """

    def __init__(
        self,
        cli: Mapping[str, Any],
        environ: Mapping[str, str] = os.environ,
        ini: Mapping[str, Any] | None = None,
    ) -> None:
        self._given = {o.name: _lookup(o, cli, environ, ini or {}) for o in OPTIONS}

    def __getitem__(self, name: str) -> Any:
        return self._given[name].value

    def source(self, name: str) -> str:
        """Where the value came from: `cli`, `env`, `ini` or `default`."""
        return self._given[name].source

    @property
    def chosen(self) -> bool:
        """Whether the user named something to test, on the command line or in the environment.

        An ini key is no choice for this run: it says which model, not that it is wanted now.
        """
        return any(self.source(name) in ("cli", "env") for name in ("model", "url"))


def _lookup(
    option: Option, cli: Mapping[str, Any], environ: Mapping[str, str], ini: Mapping[str, Any]
) -> Given:
    if (value := cli.get(option.ini)) is not None:
        return Given(parse_value(option, value, option.cli), "cli")
    if value := environ.get(option.env):
        where = f"the variable {option.env}"
        words = _split(value, where) if option.many else value
        return Given(parse_value(option, words, where), "env")
    if value := ini.get(option.ini):
        return Given(parse_value(option, value, f"the ini key {option.ini}"), "ini")
    return Given(() if option.many else option.default, "default")


def _split(text: str, where: str) -> list[str]:
    """Split at blanks, as a shell does."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise SettingsError(f"{where} cannot be split into words: {error}") from None


def parse_value(option: Option, value: Any, where: str) -> Any:
    """Parse what was given for an option; `where` names the source in the error.

    Raises:
        SettingsError: The value is wrong, with the source, the value and the reason.
    """
    if isinstance(value, bool) and option.is_flag:
        return value
    if option.many:
        return tuple(_parse_one(option, item, where) for item in value)
    return _parse_one(option, value, where)


def _parse_one(option: Option, text: Any, where: str) -> Any:
    try:
        return option.parse(str(text))
    except ValueError as error:
        # It may hold a key, which must not get into the log of a CI job.
        shown = re.sub(r"(?i)(key|token|secret|password)([=\s]).*", r"\1\2…", str(text))
        raise SettingsError(f"{where}: {shown!r} {error}") from None
