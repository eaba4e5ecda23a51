"""One pytest run, as an object: settings, specs, the pool (or a worker's link to it), records.

plugin.py's hooks delegate to it. It is made when the first of them needs it, so that a run
that never touches a server never makes one.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
import uuid
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.errors import SettingsError, in_one_line
from pytest_vllm.settings import OPTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import ExitStack
    from types import FrameType

    import httpx

    from pytest_vllm.ahead import Ahead
    from pytest_vllm.client.api import Api, Once
    from pytest_vllm.deviations import Register
    from pytest_vllm.report.records import Records
    from pytest_vllm.servers.broker import Broker, Leases
    from pytest_vllm.servers.launcher import LaunchPolicy
    from pytest_vllm.servers.pool import ServerPool
    from pytest_vllm.servers.server import Server
    from pytest_vllm.spec import ServerSpec

_KEY = pytest.StashKey["Run"]()

#: Where an xdist worker finds the way to the controller's pool, and the run's private folder.
WORKER_LINK, WORKER_FOLDER = "vllm_broker", "vllm_folder"

#: Seconds between two looks whether the server lives, while tests that passed are reported.
_LOOK_EVERY_S = 0.25


class Run:
    """What pytest-vllm knows and owns during one pytest run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.started_at = time.time()
        self.id = uuid.uuid4().hex[:12]
        self._pool: ServerPool | None = None
        self._servers: dict[ServerSpec, Server] = {}
        self._lost: dict[ServerSpec, str] = {}
        self._deaths: dict[ServerSpec, str] = {}
        self.complaints: list[str] = []
        self._warnings: tuple[str, ...] = ()
        self._waited_s = 0.0
        self._looked_at = 0.0
        self._once: dict[str, Once] = {}

    @classmethod
    def of(cls, config: pytest.Config) -> Run:
        """The run of a config, made at first use."""
        if _KEY not in config.stash:
            run = config.stash[_KEY] = cls(config)
            if not run.is_worker:
                config.pluginmanager.register(run.records, "vllm-records")
        return config.stash[_KEY]

    @classmethod
    def existing(cls, config: pytest.Config) -> Run | None:
        """The run of a config, if anything needed one so far."""
        return config.stash.get(_KEY, None)

    @property
    def is_worker(self) -> bool:
        """Whether this process is an xdist worker."""
        return hasattr(self.config, "workerinput")

    def check_options(self) -> None:
        """Look at everything that the user gave.

        Raises:
            pytest.UsageError: Something in it is wrong.
        """
        from pytest_vllm.misread_paths import complaint

        given = self.config.invocation_params
        if not self.is_worker and (text := complaint(given.args, given.dir, self.config.inipath)):
            raise pytest.UsageError(text)
        _ = self.specs

    @property
    def holder(self) -> str:
        """Who leases: the id of an xdist worker, or "" for pytest itself."""
        return str(self.config.workerinput["workerid"]) if self.is_worker else ""  # type: ignore[attr-defined]

    def once(self, server: Server) -> Once:
        """What this process has found out about a server, shared by its tests."""
        from pytest_vllm.client.api import Once

        return self._once.setdefault(server.base_url, Once())

    @cached_property
    def ahead(self) -> Ahead:
        """The tests that run before their turn."""
        from pytest_vllm.ahead import Ahead

        return Ahead(self.config, self.settings["concurrency"])

    def api(self, server: Server, client: httpx.Client) -> Api:
        """A new Api, for one test."""
        from pytest_vllm.client.api import Api

        return Api(server, client, self.once(server))

    @cached_property
    def register(self) -> Register:
        """The known deviations of released servers.

        Raises:
            pytest.UsageError: The register is wrong.
        """
        from pytest_vllm import deviations

        try:
            return deviations.read(deviations.REGISTER)
        except SettingsError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def folder(self) -> Path:
        """A private folder of the run, the same for the workers; removed at the end."""
        if self.is_worker:
            return Path(self.config.workerinput[WORKER_FOLDER])  # type: ignore[attr-defined]
        return Path(tempfile.mkdtemp(prefix="pytest-vllm-run-"))

    def enter(self, server: Server, *, alone: bool) -> ExitStack | None:
        """Under xdist, wait until a test may use a server; alone, if it must be."""
        if not self.is_worker:
            return None
        from pytest_vllm.alone import Room

        began = time.monotonic()
        try:
            return Room(self.folder, server.base_url).enter(alone=alone)
        finally:
            self._waited_s += time.monotonic() - began

    def release(self, spec: ServerSpec) -> None:
        """Give a lease back."""
        self.leases.release(spec, self.holder)

    def forget_worker(self, worker: str) -> None:
        """Take the leases of an xdist worker that ended, cleanly or not."""
        if self._pool is not None:
            self._pool.forget(worker)

    @cached_property
    def settings(self) -> Settings:
        """The options, parsed.

        Raises:
            pytest.UsageError: One of them is wrong.
        """
        ini = {o.ini: self.config.getini(o.ini) for o in OPTIONS}
        try:
            return Settings(vars(self.config.option), os.environ, ini)
        except SettingsError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def specs(self) -> tuple[ServerSpec, ...]:
        """What is to be served, one spec per model.

        Raises:
            pytest.UsageError: An option or a model's table is wrong.
        """
        from pytest_vllm.model_tables import read_model_tables
        from pytest_vllm.specs import specs_from

        try:
            tables = read_model_tables(self.config.rootpath / "pyproject.toml")
            return specs_from(self.settings, tables)
        except SettingsError as error:
            raise pytest.UsageError(str(error)) from None

    @cached_property
    def policy(self) -> LaunchPolicy:
        """How servers are launched in this run."""
        from pytest_vllm.servers.launcher import LaunchPolicy

        return LaunchPolicy(
            run_id=self.id,
            log_dir=self._log_dir(),
            pull=self.settings["pull"],
            startup_timeout_s=self.settings["startup-timeout"],
            stall_timeout_s=self.settings["stall-timeout"],
            preflight=self.settings["preflight"] == "on",
            auto_adjust=bool(self.settings["auto-adjust"]),
        )

    def _log_dir(self) -> Path:
        if self.settings["log-dir"]:
            return Path(self.settings["log-dir"]).expanduser().resolve()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self.started_at))
        root = Path(tempfile.gettempdir()) / f"pytest-vllm-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        if root.is_symlink() or root.stat().st_uid != os.getuid():
            # Somebody else made it: nobody may choose where our logs go, nor read them.
            root = Path(tempfile.mkdtemp(prefix="pytest-vllm-"))
        return root / f"{stamp}-{self.id[:4]}"

    @cached_property
    def records(self) -> Records:
        """The tests' records, on the process that reports."""
        from pytest_vllm.report.records import Records

        return Records()

    # --- servers ---------------------------------------------------------------------------

    @property
    def pool(self) -> ServerPool:
        """The pool, which only the process that owns the run has."""
        if self._pool is None:
            from pytest_vllm.report.progress import Progress
            from pytest_vllm.servers.pool import ServerPool

            self._pool = ServerPool(self.policy, Progress(self.config))
        return self._pool

    @cached_property
    def broker(self) -> Broker:
        """Shares the pool with xdist workers."""
        from pytest_vllm.servers.broker import Broker

        _end_cleanly_on_sigterm()
        return Broker(lambda: self.pool)

    @cached_property
    def leases(self) -> Leases:
        """The pool, or a worker's link to the controller's."""
        if not self.is_worker:
            _end_cleanly_on_sigterm()
            return self.pool
        from pytest_vllm.servers.broker import connect

        workerinput: dict[str, Any] = self.config.workerinput  # type: ignore[attr-defined]
        return connect(workerinput[WORKER_LINK])

    def note_limits(self, items: Iterable[pytest.Item]) -> None:
        """Remember which limits of this process would end the start of a server."""
        if self.settings["preflight"] == "on" and not self.settings["url"]:
            from pytest_vllm.preflight.timeouts import warnings

            self._warnings = warnings(self.config, items, self.settings["startup-timeout"])

    def lease(self, spec: ServerSpec) -> Server:
        """Lease the server of a spec, and remember it, or its failure, for the hooks.

        Raises:
            pytest.fail.Exception: There is no such server, with the report.
        """
        from pytest_vllm.errors import LaunchError, ServerDied

        began = time.monotonic()
        try:
            server = self._servers[spec] = self.leases.lease(spec, self.holder, self._warnings)
        except (LaunchError, ServerDied) as error:
            report = str(error)
        else:
            return server
        finally:
            self._waited_s += time.monotonic() - began
        # Outside of the handler, or pytest would show the error a second time as its cause.
        self.give_up(spec, report)
        pytest.fail(report, pytrace=False)

    def complain(self, sentence: str) -> None:
        """Have the summary say that something of ours went wrong at the end."""
        self.complaints.append(sentence)

    def model_of(self, spec: ServerSpec) -> str:
        """The model's name in every report: as the user wrote it, else as the server says."""
        server = self._servers.get(spec) or self.servers_by_spec().get(spec)
        return spec.model or (server.model if server else spec.url or "")

    def take_wait(self) -> float:
        """Seconds spent on waiting for servers since the last call."""
        waited, self._waited_s = self._waited_s, 0.0
        return waited

    def give_up(self, spec: ServerSpec, report: str) -> None:
        """Remember that a spec has no server: its next tests end at once, in one line."""
        self._lost[spec] = in_one_line(report)

    def death(self, spec: ServerSpec, item: pytest.Item) -> str | None:
        """After a test: the report of its server's death, if it is the one to show it.

        Where several tests were on their way, a test that had passed is none of the suspects;
        the report waits for the first of these, whose turn comes next. So after tests that
        passed ahead of their turn, and are reported within a moment, one look is enough.
        """
        flight = self.ahead.flight(item)
        passed = flight is not None and flight.error is None
        if passed and time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return None
        self._looked_at = time.monotonic()
        suspects = self.ahead.suspects(item)
        report = self.leases.check(spec, _together(suspects))
        if report is None:
            return None
        self.ahead.discard()
        report = self._deaths.setdefault(spec, report)
        if item.nodeid not in suspects:
            return None
        self.give_up(spec, report)
        return report

    def lost(self, spec: ServerSpec) -> str | None:
        """Why a spec has no server any more, in one line; None if it may have one."""
        return self._lost.get(spec)

    def leased(self, spec: ServerSpec) -> Server | None:
        """The server that this process leased for a spec, if it did."""
        return self._servers.get(spec)

    def servers_by_spec(self) -> dict[ServerSpec, Server]:
        """Every server that was ready in this run; {} where nothing was started."""
        return self._pool.servers_by_spec() if self._pool else {}

    def failures(self) -> dict[ServerSpec, str]:
        """Every spec whose server failed, with the report."""
        return self._pool.failures() if self._pool else {}

    def diagnoses(self) -> dict[ServerSpec, Mapping[str, Any]]:
        """Why servers failed, by spec."""
        return self._pool.diagnoses() if self._pool else {}

    def close(self) -> None:
        """Stop every server. Idempotent."""
        if "ahead" in self.__dict__:
            self.ahead.discard()
        try:
            if self._pool is not None:
                self._pool.close()
        finally:
            if "folder" in self.__dict__ and not self.is_worker:
                shutil.rmtree(self.folder, ignore_errors=True)


def _together(tests: list[str]) -> str:
    """Name those who may have killed a server."""
    if len(tests) == 1:
        return tests[0]
    names = f"{', '.join(tests[:-1])} or {tests[-1]}"
    return f"{names} (on their way together; --vllm-concurrency=1 tells which)"


def _end_cleanly_on_sigterm() -> None:
    """CI systems cancel with SIGTERM, a closed ssh session with SIGHUP: make it a Ctrl-C.

    Either would skip all clean-up.

    Only from the main thread, and only if nobody else handles it.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt(f"terminated ({signal.Signals(signum).name})")
