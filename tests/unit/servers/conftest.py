from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_vllm.servers import pool as pool_module
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from tests.unit.servers.fakes import FakeHttp, FakeLauncher, WatchedCondition, fake_http


@pytest.fixture
def http() -> Iterator[FakeHttp]:
    """A healthy server, as far as HTTP goes."""
    with fake_http() as fake:
        yield fake


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, http: FakeHttp) -> FakeLauncher:
    """What every pool of the test starts servers with."""
    fake = FakeLauncher()
    fake.url = http.url
    monkeypatch.setattr(pool_module, "launcher_for", lambda spec, policy: fake)
    monkeypatch.setattr(pool_module, "_make_ready", fake.make_ready)
    return fake


@pytest.fixture
def progress() -> list[tuple[str, str]]:
    """What a pool tells about its starts."""
    return []


@pytest.fixture
def turn() -> WatchedCondition:
    """What leases of the pool wait on."""
    return WatchedCondition()


@pytest.fixture
def pool(
    launcher: FakeLauncher,
    progress: list[tuple[str, str]],
    turn: WatchedCondition,
    tmp_path: Path,
) -> ServerPool:
    """A pool whose servers are fakes."""
    pool = ServerPool(LaunchPolicy("run", tmp_path), lambda *line: progress.append(line))
    pool._turn = turn
    return pool
