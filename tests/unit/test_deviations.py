"""The register of known deviations: reading it, and whom an entry concerns."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from pytest_vllm.deviations import REGISTER, Deviation, read
from pytest_vllm.errors import SettingsError
from pytest_vllm.models.capabilities import Capabilities, Verdict
from pytest_vllm.servers.server import Server
from pytest_vllm.spec import ServerSpec

GOOD = """
[[deviation]]
test = "test_a.py::test_b[c-*]"
versions = ">=0.30,<0.33"
issue = "vllm#1"
reason = "It is wrong."
"""


def server(version: str = "0.32.0", *names: str, model: str = "acme/m") -> Server:
    able = Capabilities(Verdict("base", "user", ""), names=frozenset(names or ("vllm",)))
    return Server("http://x", model, ServerSpec(model), "x", None, version, None, able)


def entry(**more: tuple[str, ...]) -> Deviation:
    return Deviation("test_a.py::test_b[c-*]", SpecifierSet(">=0.30,<0.33"), "i", "r", **more)


def test_our_own_register_can_be_read() -> None:
    read(REGISTER)


@pytest.mark.parametrize(
    ("rule", "concerned"),
    [
        ("test_a.py::test_b[c-1]", True),
        ("test_a.py::test_b[d-1]", False),
        ("test_a.py::test_b", False),
        ("test_a.py::test_bc", False),
    ],
)
def test_an_entry_concerns_the_rules_that_its_pattern_matches(rule: str, concerned: bool) -> None:
    assert entry().concerns(rule, server()) is concerned


@pytest.mark.parametrize(
    ("version", "concerned"),
    [
        ("0.32.0", True),
        ("0.30.1rc2", True),
        ("0.31.1.dev3+g123", True),
        ("0.33.0", False),
        ("0.29.9", False),
        ("", False),
        ("main", False),
    ],
)
def test_an_entry_concerns_its_versions(version: str, concerned: bool) -> None:
    assert entry().concerns("test_a.py::test_b[c-1]", server(version)) is concerned


def test_another_server_than_vllm_has_no_known_deviations() -> None:
    assert not entry().concerns("test_a.py::test_b[c-1]", server("0.32.0", "chat"))


def test_an_entry_may_be_about_some_models_only() -> None:
    some = entry(models=("known-answer/*",))
    assert some.concerns("test_a.py::test_b[c-1]", server(model="known-answer/base"))
    assert not some.concerns("test_a.py::test_b[c-1]", server())


def test_an_entry_may_need_a_capability() -> None:
    some = entry(requires=("tools",))
    assert some.concerns("test_a.py::test_b[c-1]", server("0.32.0", "vllm", "tools"))
    assert not some.concerns("test_a.py::test_b[c-1]", server())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("issue", "isue"), "entry 1: issue must be there"),
        (('"vllm#1"', '" "'), "entry 1: issue must be there, as a text that is not empty"),
        (('"vllm#1"', '"vllm#1"\nmore = 1'), "entry 1: unknown key 'more'"),
        ((">=0.30", "0.30 or so"), "entry 1: versions must be like"),
        (("test_a.py::", ""), "entry 1: test must be test_file.py::test_name"),
        (('"vllm#1"', '"vllm#1"\nmodels = "x"'), "entry 1: models must be an array of texts"),
        (("[[deviation]]", "[[deviations]]"), "unknown table 'deviations'"),
        (("[[deviation]]", "[[deviation"), "known.toml: "),
    ],
)
def test_a_wrong_register_says_what_is_wrong(
    tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    path = tmp_path / "known.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(SettingsError) as error:
        read(path)
    assert complaint in str(error.value)


def test_the_reason_names_version_and_issue(tmp_path: Path) -> None:
    (tmp_path / "known.toml").write_text(GOOD)
    known = read(tmp_path / "known.toml").entries[0]
    said = "known deviation of vLLM 0.32.0: It is wrong (vllm#1)"
    assert known.said_of("0.32.0") == said
