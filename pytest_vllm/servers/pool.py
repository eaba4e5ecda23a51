"""One live server per spec: leases, one server at a time, and an end for all of them.

The pool outlives every fixture and belongs to the process that owns the run: pytest itself,
or the controller under pytest-xdist (broker.py). Its methods may be called from many threads.

A start that failed is remembered: each later lease gets the same error without a new start.
So is a death: the test that killed the server is named, the rest end at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import LaunchError, ServerDied, StartFailed, in_one_line
from pytest_vllm.servers.adjust import adjusted, before_the_start, earlier_try, with_more
from pytest_vllm.servers.launcher import Launcher, LaunchPolicy, launcher_for
from pytest_vllm.servers.liveness import death_of
from pytest_vllm.servers.obituary import server_died, without_log
from pytest_vllm.servers.server import Instance, Server

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from pytest_vllm.spec import ServerSpec

#: Told about progress: (model, line).
Progress = Callable[[str, str], None]


@dataclass
class _Live:
    """The server that lives now."""

    spec: ServerSpec
    instance: Instance
    server: Server
    holders: set[str]


class ServerPool:
    """Owns every server of a run."""

    def __init__(self, policy: LaunchPolicy, progress: Progress) -> None:
        self._policy = policy
        self._progress = progress
        self._turn = threading.Condition()
        self._live: _Live | None = None
        self._busy = False
        self._closed = False
        self._gone: set[str] = set()
        self._instances: list[Instance] = []
        self._servers: dict[ServerSpec, Server] = {}
        self._failed: dict[ServerSpec, LaunchError | ServerDied] = {}

    def lease(self, spec: ServerSpec, holder: str = "", warnings: tuple[str, ...] = ()) -> Server:
        """The server of a spec, started if need be; waits while another one is in use.

        `holder` names the process that leases: an xdist worker, or "" for pytest itself.
        `warnings` are what that process has to say against a start.

        Raises:
            LaunchError: It did not start, now or earlier.
            ServerDied: It died earlier in this run.
        """
        with self._turn:
            self._turn.wait_for(lambda: self._closed or self._available(spec))
            if self._closed or holder in self._gone:
                raise StartFailed("The run is ending: no server is started any more.")
            if spec in self._failed:
                raise self._again(spec)
            if self._live and self._live.spec == spec:
                self._live.holders |= {holder} - self._gone
                return self._live.server
            self._busy = True
        return self._change_to(spec, holder, warnings)

    def release(self, spec: ServerSpec, holder: str = "") -> None:
        """Give a lease back. The server stays up until another one is wanted, or the end."""
        with self._turn:
            if self._live and self._live.spec == spec:
                self._live.holders.discard(holder)
            self._turn.notify_all()

    def forget(self, holder: str) -> None:
        """Take the leases of a worker that ended: one that crashed cannot give them back."""
        with self._turn:
            self._gone.add(holder)
            if self._live:
                self._live.holders.discard(holder)
            self._turn.notify_all()

    def check(self, spec: ServerSpec, test: str) -> str | None:
        """After a test: None if the server lives, else the report of its death.

        The first test that finds it dead gets the blame; later leases fail at once.
        """
        with self._turn:
            live = self._live
            if spec in self._failed:
                return str(self._again(spec))
            if live is None or live.spec != spec or (how := death_of(live.instance)) is None:
                return None
            died = self._failed[spec] = server_died(live.instance, live.server.spec, test, how)
            return str(died)

    def servers_by_spec(self) -> dict[ServerSpec, Server]:
        """Every server that was ready in this run, in the order of their starts."""
        return dict(self._servers)

    def failures(self) -> dict[ServerSpec, str]:
        """Every spec whose server failed, with the report."""
        return {spec: str(error) for spec, error in list(self._failed.items())}

    def diagnoses(self) -> dict[ServerSpec, Mapping[str, Any]]:
        """Why each of them failed, where that was looked into."""
        failed = list(self._failed.items())
        return {spec: error.diagnosis for spec, error in failed if error.diagnosis}

    def close(self) -> None:
        """Stop everything, also a start that is under way. Idempotent."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        # Each of them, even if the end of one fails.
        with contextlib.ExitStack() as ends:
            for instance in list(self._instances):
                ends.callback(self._end, instance)

    def _again(self, spec: ServerSpec) -> LaunchError | ServerDied:
        """The error of an earlier failure in one line: the report was shown when it happened."""
        error = self._failed[spec]
        return type(error)(in_one_line(str(error)))

    def _end(self, instance: Instance) -> None:
        instance.stop()
        with contextlib.suppress(ValueError):  # another thread may have ended it meanwhile
            self._instances.remove(instance)

    def _available(self, spec: ServerSpec) -> bool:
        if spec in self._failed:
            return True
        if self._busy:
            return False
        return self._live is None or self._live.spec == spec or not self._live.holders

    def _change_to(self, spec: ServerSpec, holder: str, warnings: tuple[str, ...]) -> Server:
        try:
            self._retire()
            with self._remember_failure(spec):
                live = self._start(spec, holder, warnings)
                self._live, self._servers[spec] = live, live.server
                return live.server
        finally:
            with self._turn:
                self._busy = False
                self._turn.notify_all()

    @contextlib.contextmanager
    def _remember_failure(self, spec: ServerSpec) -> Iterator[None]:
        """Whatever went wrong: otherwise every test would try a start of its own."""
        try:
            yield
        except Exception as error:
            name = spec.model or spec.url or ""
            report = error if isinstance(error, LaunchError) else LaunchError(f"{name}: {error!r}")
            report.diagnosis = report.diagnosis or without_log(report)
            self._failed[spec] = report
            self._progress(name, "did not start")
            raise

    def _retire(self) -> None:
        if self._live is not None:
            old, self._live = self._live, None
            self._end(old.instance)

    def _start(self, spec: ServerSpec, holder: str, warnings: tuple[str, ...]) -> _Live:
        from pytest_vllm.preflight.look import look

        def say(line: str) -> None:
            self._progress(spec.model or spec.url or "", line)

        launcher = launcher_for(spec, self._policy)
        resolved = launcher.resolve(spec)
        self._policy.log_dir.mkdir(parents=True, exist_ok=True)
        say(_how(resolved))
        warnings += look(launcher, resolved, self._policy)
        if spec not in self._servers:  # once, and not at each return to a server
            for warning in warnings:
                say(warning)
        try:
            instance, server = self._try(launcher, resolved, say)
        except LaunchError as error:
            raise with_more(error, before_the_start(warnings)) from None
        server = replace(server, notes=(*warnings, *server.notes))
        return _Live(spec, instance, server, {holder} - self._gone)

    def _try(self, launcher: Launcher, spec: ServerSpec, say: _Say) -> tuple[Instance, Server]:
        """Start it; after a refusal for want of memory once more with less, if that is wanted."""
        try:
            return self._launch(launcher, spec, say)
        except StartFailed as error:
            first = error
        better = adjusted(spec, first.diagnosis) if self._policy.auto_adjust else None
        if better is None:
            raise first
        say(better.text)
        try:
            instance, server = self._launch(launcher, better.spec, say)
        except LaunchError as second:
            raise with_more(second, earlier_try(first, better)) from None
        return instance, replace(server, notes=(better.text, *server.notes))

    def _launch(self, launcher: Launcher, spec: ServerSpec, say: _Say) -> tuple[Instance, Server]:
        instance = launcher.launch(spec, self._register, say)
        try:
            return instance, _make_ready(instance, spec, self._policy, say)
        except BaseException:
            self._end(instance)
            raise

    def _register(self, instance: Instance) -> None:
        self._instances.append(instance)
        if self._closed:  # close() may have looked before, and will not look again
            self._end(instance)
            raise StartFailed("The run is ending: the start was given up.")


def _make_ready(instance: Instance, spec: ServerSpec, policy: LaunchPolicy, say: _Say) -> Server:
    from pytest_vllm.client.http import make_client
    from pytest_vllm.models import capabilities
    from pytest_vllm.servers.mounts import hub_dir
    from pytest_vllm.servers.readiness import Startup

    hub = None if spec.launcher == "external" else hub_dir(spec)
    ready = Startup(instance, spec, policy, say, _download_dir(spec, hub)).wait(make_client)
    kind = None if spec.kind in (None, "auto") else spec.kind
    with make_client(ready.base_url) as client:
        able = capabilities.probe(client, ready.model, user_kind=kind, cache_dir=hub)
        version = _version(client)
    external = spec.launcher == "external"
    say("ready" if external else f"ready in {ready.startup_s:.0f} s")
    return Server(
        base_url=ready.base_url,
        model=ready.model,
        spec=replace(spec, model=spec.model or ready.model),
        name=instance.name,
        log_path=instance.log_path,
        version=version,
        startup_s=None if external else round(ready.startup_s, 2),
        capabilities=able,
        facts=dict(instance.facts),
        phases=ready.phases,
        notes=(*ready.notes, *able.notes),
    )


_Say = Callable[[str], None]


def _how(spec: ServerSpec) -> str:
    """The first line of a start: where the server is to run."""
    if spec.launcher == "external":
        return f"connecting to {spec.url}"
    return f"starting on {spec.platform} in {spec.image or spec.python}"


def _download_dir(spec: ServerSpec, hub: Path | None) -> Path | None:
    """Where the weights of a Hugging Face id arrive."""
    if hub is None or spec.is_known_answer or spec.local_path:
        return None
    return hub / f"models--{spec.model.replace('/', '--')}"


def _version(client: httpx.Client) -> str:
    """What /version says, "" for a server that does not say."""
    import httpx

    try:
        answer = client.get("/version", timeout=10)
        return str(answer.json()["version"]) if answer.status_code == 200 else ""
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return ""
