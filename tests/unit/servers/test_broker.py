from __future__ import annotations

import multiprocessing
import threading
from typing import TYPE_CHECKING, cast

import pytest

from pytest_vllm.errors import ServerDied, StartFailed
from pytest_vllm.servers.broker import Broker, Leases, connect
from pytest_vllm.servers.server import State
from pytest_vllm.spec import ServerSpec

if TYPE_CHECKING:
    from pytest_vllm.servers.pool import ServerPool
    from pytest_vllm.servers.server import Server
    from tests.unit.servers.fakes import FakeLauncher

A, B = ServerSpec("a", args=("--x=1",), env=(("N", None),)), ServerSpec("b")


class PoolOfThisTest:
    """Hands on to a pool that every test replaces: to connect takes 0.2 s, so it is done once."""

    pool: ServerPool

    def lease(self, spec: ServerSpec) -> Server:
        return self.pool.lease(spec)

    def release(self, spec: ServerSpec) -> None:
        self.pool.release(spec)

    def check(self, spec: ServerSpec, test: str) -> str | None:
        return self.pool.check(spec, test)


@pytest.fixture(scope="module")
def served() -> PoolOfThisTest:
    return PoolOfThisTest()


@pytest.fixture(scope="module")
def broker(served: PoolOfThisTest) -> Broker:
    return Broker(lambda: cast("ServerPool", served))


@pytest.fixture(scope="module")
def links(broker: Broker) -> tuple[Leases, Leases]:
    return connect(broker.link), connect(broker.link)


@pytest.fixture
def worker(served: PoolOfThisTest, pool: ServerPool, links: tuple[Leases, Leases]) -> Leases:
    """A worker's link to the pool of this test."""
    served.pool = pool
    return links[0]


@pytest.fixture
def other_worker(worker: Leases, links: tuple[Leases, Leases]) -> Leases:
    return links[1]


def test_a_link_is_made_of_builtin_types_as_xdist_wants_it(broker: Broker) -> None:
    assert [type(part) for part in broker.link] == [str, int, str]


def test_a_worker_gets_the_server_as_the_pool_has_it(worker: Leases, pool: ServerPool) -> None:
    assert worker.lease(A) == pool.servers_by_spec()[A]


def test_workers_share_one_server(
    worker: Leases, other_worker: Leases, launcher: FakeLauncher
) -> None:
    assert worker.lease(A) == other_worker.lease(A)
    assert launcher.events == ["start a"]


def test_a_worker_gives_its_lease_back(
    worker: Leases, other_worker: Leases, launcher: FakeLauncher
) -> None:
    worker.lease(A)
    worker.release(A)
    other_worker.lease(B)
    assert launcher.events == ["start a", "stop a", "start b"]


def test_a_worker_hears_that_its_server_lives(worker: Leases) -> None:
    worker.lease(A)
    assert worker.check(A, "test_one") is None


def test_a_worker_hears_who_killed_its_server(worker: Leases, launcher: FakeLauncher) -> None:
    worker.lease(A)
    launcher.instances["a"].end = State(False, 1)
    report = worker.check(A, "test_one")
    assert report is not None
    assert "died during test_one" in report


def test_a_failed_start_reaches_the_worker_with_type_and_report(
    worker: Leases, launcher: FakeLauncher
) -> None:
    def refuse(model: str) -> None:
        raise StartFailed("a did not start\n  evidence “größer”")

    launcher.while_starting = refuse
    with pytest.raises(StartFailed) as caught:
        worker.lease(A)
    assert str(caught.value) == "a did not start\n  evidence “größer”"


def test_a_death_reaches_the_worker_as_such(worker: Leases, launcher: FakeLauncher) -> None:
    worker.lease(A)
    launcher.instances["a"].end = State(False, 1)
    worker.check(A, "test_one")
    with pytest.raises(ServerDied):
        worker.lease(A)


def test_a_worker_that_waits_does_not_hold_up_another(
    worker: Leases, other_worker: Leases, launcher: FakeLauncher
) -> None:
    reached, over = threading.Event(), threading.Event()

    def wait(model: str) -> None:
        reached.set()
        over.wait(10)

    launcher.while_starting = wait
    waiting = threading.Thread(target=worker.lease, args=(A,))
    waiting.start()
    assert reached.wait(10)
    assert other_worker.check(B, "test_one") is None
    over.set()
    waiting.join()


def test_nothing_but_leases_can_be_called_from_outside(worker: Leases) -> None:
    assert not hasattr(worker, "close")


def test_who_does_not_know_the_key_is_refused(broker: Broker) -> None:
    host, port, _ = broker.link
    with pytest.raises(multiprocessing.AuthenticationError):
        connect((host, port, "00" * 32))
