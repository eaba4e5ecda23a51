"""Runs the suite's own test functions against a URL, without pytest: one verdict per test.

The functions, their marks and parameters are the suite's; the outcome policy is pytest_vllm's in
short: a missing capability skips, a base model's refusal of chat is expected.
"""

from __future__ import annotations

import fnmatch
import importlib
import itertools
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import httpx
import pytest

import pytest_vllm.suite
from pytest_vllm.client.api import Api, Once
from pytest_vllm.client.http import make_client
from pytest_vllm.errors import ChatNotSupported, Unsupported
from pytest_vllm.models import capabilities
from pytest_vllm.servers.server import Server
from pytest_vllm.spec import ServerSpec

__all__ = ["Test", "Verdict", "collect", "connect", "run"]


@dataclass(frozen=True)
class Test:
    """One test function with its parameters."""

    __test__ = False  # what pytest would collect otherwise

    name: str
    call: Callable[..., Any] = field(repr=False)
    arguments: dict[str, Any] = field(repr=False)
    marks: tuple[pytest.Mark, ...] = field(repr=False)

    def marked(self, name: str) -> list[pytest.Mark]:
        """The marks of a name."""
        return [mark for mark in self.marks if mark.name == name]

    @property
    def requires(self) -> set[str]:
        """The capabilities without which it is skipped."""
        return {str(name) for mark in self.marked("requires") for name in mark.args}


@dataclass(frozen=True)
class Verdict:
    """How one test ended: `passed`, `skipped` or `failed`, and why."""

    test: str
    outcome: str
    message: str = ""
    seconds: float = 0.0

    @property
    def rule(self) -> str:
        """The first line of the message, without the values and the numbers in it."""
        return self.message.split("\n")[0]


def collect(*patterns: str) -> list[Test]:
    """All tests of the suite whose names match one of the patterns (all of them by default)."""
    tests: list[Test] = []
    for info in pkgutil.iter_modules(pytest_vllm.suite.__path__):
        if info.name.startswith("test_"):
            module = importlib.import_module(f"pytest_vllm.suite.{info.name}")
            tests += _of_module(info.name, module)
    return [t for t in tests if not patterns or any(fnmatch.fnmatch(t.name, p) for p in patterns)]


def _of_module(file: str, module: Any) -> Iterator[Test]:
    own = _marks(getattr(module, "pytestmark", ()))
    for name, function in vars(module).items():
        if name.startswith("test_") and callable(function):
            marks = (*own, *_marks(getattr(function, "pytestmark", ())))
            for suffix, arguments, more in _cases(marks):
                yield Test(f"{file}.py::{name}{suffix}", function, arguments, (*marks, *more))


def _marks(found: Any) -> list[pytest.Mark]:
    found = found if isinstance(found, (list, tuple)) else [found]
    return [getattr(mark, "mark", mark) for mark in found]


def _cases(marks: Iterable[pytest.Mark]) -> Iterator[tuple[str, dict[str, Any], list[pytest.Mark]]]:
    tables = [_rows(mark) for mark in marks if mark.name == "parametrize"]
    for rows in itertools.product(*tables):
        ids = "-".join(row[0] for row in reversed(rows))
        arguments = {k: v for row in rows for k, v in row[1].items()}
        yield f"[{ids}]" if ids else "", arguments, [m for row in rows for m in row[2]]


def _rows(mark: pytest.Mark) -> list[tuple[str, dict[str, Any], list[pytest.Mark]]]:
    names, values = mark.args[:2]
    names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
    ids = mark.kwargs.get("ids")
    rows = []
    for number, value in enumerate(values):
        marks, row_id = [], None
        if hasattr(value, "marks") and hasattr(value, "values") and hasattr(value, "id"):
            marks, row_id = _marks(list(value.marks)), value.id
            value = value.values if len(names) > 1 else value.values[0]
        if row_id is None:
            if callable(ids):
                row_id = ids(value)
            elif ids is not None:
                row_id = list(ids)[number]
        row = dict(zip(names, value, strict=True)) if len(names) > 1 else {names[0]: value}
        text = (
            row_id if row_id is not None else "-".join(_word(v, n, number) for n, v in row.items())
        )
        rows.append((str(text), row, marks))
    return rows


def _word(value: Any, name: str, number: int) -> str:
    plain = isinstance(value, (str, int, float, bool)) or value is None
    return str(value) if plain else getattr(value, "__name__", f"{name}{number}")


def connect(url: str, model: str, kind: str | None = None) -> tuple[Server, httpx.Client]:
    """Probe a server as a run does.

    Raises AssertionError for a server that is not ready: then a run ends before its first test.
    """
    client = make_client(url)
    assert client.get("/health").status_code == 200, "start: GET /health must be answered with 200"
    names = [entry["id"] for entry in client.get("/v1/models").json()["data"]]
    assert model in names, f"start: it must serve {model}, it serves {names}"
    first = client.post("/v1/completions", json={"model": model, "prompt": "x", "max_tokens": 1})
    if kind != "embedding":
        assert first.status_code == 200, "start: it must generate a token"
        assert first.json()["choices"], "start: it must generate a token"
    able = capabilities.probe(client, model, user_kind=kind)
    try:
        version = str(client.get("/version").json().get("version", ""))
    except (ValueError, AttributeError):
        version = ""
    spec = ServerSpec(model=model, launcher="external", url=url)
    return Server(url, model, spec, url, None, version, None, able, MappingProxyType({})), client


def run(
    tests: list[Test],
    server: Server,
    client: httpx.Client,
    *,
    threads: int = 8,
    enough: int = 0,
    on: Callable[[Verdict], None] = lambda verdict: None,
) -> list[Verdict]:
    """Run tests: those that may share the server first, the lone ones one after another.

    Args:
        enough: Stop after so many failures; 0 runs all.
    """
    once, verdicts = Once(), []
    shared = [test for test in tests if not test.marked("alone")]
    lone = [test for test in tests if test.marked("alone")]
    failures = itertools.count(1)
    full: list[bool] = []

    def one(test: Test) -> Verdict | None:
        if full:
            return None
        verdict = judge(test, server, client, once)
        if verdict.outcome == "failed" and next(failures) == enough:
            full.append(True)
        on(verdict)
        return verdict

    with ThreadPoolExecutor(threads) as pool:
        verdicts += [v for v in pool.map(one, shared) if v]
    verdicts += [v for v in map(one, lone) if v]
    return verdicts


def judge(test: Test, server: Server, client: httpx.Client, once: Once) -> Verdict:
    """Run one test."""
    began = time.monotonic()

    def verdict(outcome: str, message: object = "") -> Verdict:
        return Verdict(test.name, outcome, str(message), time.monotonic() - began)

    lacking = [name for name in sorted(test.requires) if not server.capabilities.has(name)]
    if lacking:
        return verdict("skipped", server.capabilities.why_not(lacking[0]))
    fixtures: dict[str, Any] = {"api": Api(server, client, once)}
    fixtures |= {"vllm_api": fixtures["api"], "vllm_client": client, "vllm_server": server}
    fixtures["vllm_note"] = lambda text: None
    wanted = test.call.__code__.co_varnames[: test.call.__code__.co_argcount]
    if any(name not in fixtures and name not in test.arguments for name in wanted):
        return verdict("skipped", "it takes other fixtures")
    given = {name: test.arguments.get(name, fixtures.get(name)) for name in wanted}
    try:
        test.call(**given)
    except (Unsupported, pytest.skip.Exception) as evidence:
        return verdict("skipped", evidence)
    except ChatNotSupported as refusal:
        base = test.marked("chat_model") and server.capabilities.chat.kind == "base"
        return verdict("passed" if base else "failed", refusal)
    except BaseException as failure:
        return verdict("failed", failure if str(failure) else repr(failure))
    return verdict("passed")
