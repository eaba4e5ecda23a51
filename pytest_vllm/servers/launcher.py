"""The Launcher protocol, and which launcher serves a spec.

A launcher knows one way to bring a server to life and nothing of readiness, leases or tests.
A new way (Slurm, Kubernetes, another host) is a new class with `launch`, and a line in
`launcher_for`.
"""

from __future__ import annotations

import platform as host_platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pytest_vllm.errors import LauncherUnavailable

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

#: Told to people while they wait: one short line each.
Say = Callable[[str], None]

#: How lines begin that are kept on the terminal, and not overwritten by the next.
WARNING, ADJUSTED = "warning: ", "--vllm-auto-adjust: "


@dataclass(frozen=True)
class LaunchPolicy:
    """How to launch, as opposed to what (ServerSpec).

    Attributes:
        run_id: Names this run in labels.
        log_dir: Where logs go.
        pull: `missing`, `always` or `never`.
        startup_timeout_s: vLLM's own start limit follows it.
        stall_timeout_s: Longest silence of a start.
        stop_grace_s: Time between SIGTERM and SIGKILL; killing earlier leaks GPU memory.
        preflight: Whether to look before a start.
        auto_adjust: Whether a start that was refused for want of memory is tried with less.
    """

    run_id: str
    log_dir: Path
    pull: str = "missing"
    startup_timeout_s: float = 1800.0
    stall_timeout_s: float = 600.0
    stop_grace_s: float = 60.0
    preflight: bool = False
    auto_adjust: bool = False


class Launcher(Protocol):
    """One way to bring a server to life."""

    def resolve(self, spec: ServerSpec) -> ServerSpec:
        """Decide what the spec leaves open (platform, image …) for this launcher."""

    def launch(self, spec: ServerSpec, register: Callable[[Instance], None], say: Say) -> Instance:
        """Start a server for a resolved spec and return at once, long before it is ready.

        `register` is called with the instance before anything is started, so that whatever
        happens next, somebody is there to stop it.

        Raises:
            LaunchError: It could not be started; nothing is left behind.
        """


def launcher_for(spec: ServerSpec, policy: LaunchPolicy) -> Launcher:
    """Choose the launcher of a spec.

    Raises:
        LauncherUnavailable: `auto` found neither a Docker engine nor a local vLLM.
    """
    from pytest_vllm.servers.docker import DockerLauncher
    from pytest_vllm.servers.external import ExternalLauncher
    from pytest_vllm.servers.process import ProcessLauncher

    if spec.launcher == "external":
        return ExternalLauncher()
    if spec.launcher == "docker":
        return DockerLauncher(policy)
    if spec.launcher == "process":
        return ProcessLauncher(policy)
    return _automatic(spec, DockerLauncher(policy), ProcessLauncher(policy))


def _automatic(spec: ServerSpec, docker: Launcher, process: Launcher) -> Launcher:
    # What the user named decides: never serve in anything else than the image asked for.
    candidates = (docker,) if spec.image else (process,) if spec.python else (docker, process)
    tried = []
    for launcher in candidates:
        try:
            launcher.resolve(spec)
        except LauncherUnavailable as error:
            tried.append(str(error))
        else:
            return launcher
    raise LauncherUnavailable(
        f"There is nothing to start {spec.model} with on {host_platform.node()}.\n\n"
        + "\n\n".join(tried)
        + "\n\nOr test a server that already runs: --vllm-url http://127.0.0.1:8000"
    )


def with_platform(spec: ServerSpec, platform: str) -> ServerSpec:
    """The spec with its `auto` platform decided."""
    return replace(spec, platform=platform) if spec.platform == "auto" else spec
