"""Known deviations: rules that a released server is known to break.

`suite/known_deviations.toml` lists them, each with the versions that have it. On such a version
the failure of the rule's test is expected, and shown with its reason; the test that passes
instead is news: the deviation is gone, and its entry can go.

    [[deviation]]
    test = "test_chat_stream.py::test_the_finish_chunk_has_no_content"   # `*` and `?` match
    versions = ">=0.30,<0.33"                                           # of /version, PEP 440
    issue = "vllm#35705"
    reason = "The last chunk carries both the last text and the finish_reason"
    models = ["known-answer/*"]                                          # optional
    requires = ["tools"]                                                 # optional
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from pytest_vllm.errors import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    import pytest

    from pytest_vllm.servers.server import Server

__all__ = ["REGISTER", "Deviation", "Register", "read", "rule_of"]

SUITE = Path(__file__).parent / "suite"
REGISTER = SUITE / "known_deviations.toml"

_NEEDED = ("test", "versions", "issue", "reason")
_LISTS = ("models", "requires")


@dataclass(frozen=True)
class Deviation:
    """One entry.

    Attributes:
        test: `test_file.py::test_name[param]`, relative to the suite; `*` and `?` match.
        versions: Those of vLLM that have it.
        models: Patterns of the served models that show it; () for all.
        requires: Capabilities without which it does not show.
    """

    test: str
    versions: SpecifierSet
    issue: str
    reason: str
    models: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()

    def concerns(self, rule: str, server: Server) -> bool:
        """Whether the test of this rule is expected to fail on the server."""
        return (
            _matches(rule, self.test)
            and server.capabilities.has("vllm")
            and _is_in(server.version, self.versions)
            and (not self.models or any(_matches(server.model, m) for m in self.models))
            and all(server.capabilities.has(name) for name in self.requires)
        )

    def said_of(self, version: str) -> str:
        """The reason, for reports."""
        return f"known deviation of vLLM {version}: {self.reason} ({self.issue})"


@dataclass(frozen=True)
class Register:
    """All entries."""

    entries: tuple[Deviation, ...]

    def find(self, item: pytest.Item, server: Server) -> Deviation | None:
        """The entry that a test of the suite falls under on this server."""
        rule = rule_of(item)
        return next((e for e in self.entries if rule and e.concerns(rule, server)), None)


def read(path: Path) -> Register:
    """Read a register.

    Raises:
        SettingsError: It is wrong; with the file, the entry and what is the matter with it.
    """
    try:
        with path.open("rb") as file:
            raw = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None
    if unknown := sorted(raw.keys() - {"deviation"}):
        raise SettingsError(f"{path}: unknown table {unknown[0]!r}, only [[deviation]] is known")
    entries = raw.get("deviation", [])
    return Register(tuple(_entry(e, f"{path}, entry {n}") for n, e in enumerate(entries, start=1)))


def rule_of(item: pytest.Item) -> str:
    """`test_file.py::test_name[param]` of a test of the suite, without the model; else ""."""
    callspec = getattr(item, "callspec", None)
    if callspec is None or not item.path.is_relative_to(SUITE):
        return ""
    spec = callspec.params.get("vllm_spec")
    own = (spec.id or "url") if spec else ""
    words = [word for word in callspec._idlist if word != own]
    name = getattr(item, "originalname", item.name)
    path = item.path.relative_to(SUITE).as_posix()
    return f"{path}::{name}[{'-'.join(words)}]" if words else f"{path}::{name}"


def _entry(raw: dict[str, Any], where: str) -> Deviation:
    for key in _NEEDED:
        if not isinstance(raw.get(key), str) or not raw[key].strip():
            raise SettingsError(f"{where}: {key} must be there, as a text that is not empty")
    if unknown := sorted(raw.keys() - {*_NEEDED, *_LISTS}):
        known = ", ".join((*_NEEDED, *_LISTS))
        raise SettingsError(f"{where}: unknown key {unknown[0]!r}, known are {known}")
    if "::" not in raw["test"]:
        raise SettingsError(f"{where}: test must be test_file.py::test_name, not {raw['test']!r}")
    try:
        versions = SpecifierSet(raw["versions"])
    except InvalidSpecifier:
        raise SettingsError(
            f'{where}: versions must be like ">=0.30,<0.33", not {raw["versions"]!r}'
        ) from None
    lists = {key: _words(raw.get(key, []), f"{where}: {key}") for key in _LISTS}
    return Deviation(raw["test"], versions, raw["issue"], raw["reason"].rstrip("."), **lists)


def _words(raw: object, where: str) -> tuple[str, ...]:
    if not isinstance(raw, Sequence) or not all(isinstance(word, str) for word in raw):
        raise SettingsError(f"{where} must be an array of texts, not {raw!r}")
    if isinstance(raw, str):
        raise SettingsError(f"{where} must be an array of texts, not {raw!r}")
    return tuple(raw)


def _matches(text: str, pattern: str) -> bool:
    """As fnmatch, but a bracket is a bracket: test ids are full of them."""
    return fnmatchcase(text, pattern.replace("[", "[[]"))


def _is_in(version: str, versions: SpecifierSet) -> bool:
    try:
        return versions.contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
