"""What the Docker SDK raises -> one paragraph for a person."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

from pytest_vllm.errors import LaunchError, LauncherUnavailable, StartFailed

if TYPE_CHECKING:
    import docker

    from pytest_vllm.spec import ServerSpec


_DEFAULT_HOST = "unix:///var/run/docker.sock"


def connect(timeout_s: int = 60) -> docker.DockerClient:
    """A client whose engine answers.

    Raises:
        LauncherUnavailable: With the endpoint that was tried, the reason and the remedy.
    """
    try:
        _knock()
    except OSError as error:
        raise LauncherUnavailable(_no_engine(str(error))) from None
    import docker

    try:
        client = docker.from_env(timeout=timeout_s)
        client.ping()
    except (docker.errors.DockerException, OSError, ValueError) as error:
        raise LauncherUnavailable(_no_engine(str(error))) from None
    return client


def _knock() -> None:
    """Connect to the engine's socket: where that fails, the SDK leaves an open socket behind.

    Raises:
        OSError: It is not there, nobody listens, or this user may not.
    """
    scheme, _, path = (os.environ.get("DOCKER_HOST") or _DEFAULT_HOST).partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(path)


def _no_engine(text: str) -> str:
    host = os.environ.get("DOCKER_HOST")
    where = f"{host} (from DOCKER_HOST)" if host else f"{_DEFAULT_HOST} (the default)"
    if "Permission denied" in text or "PermissionError" in text:
        return (
            f"Docker: the engine at {where} is there, but this user may not talk to it.\n"
            "Join its group: `sudo usermod -aG docker $USER`, then log in again."
        )
    if re.search(r"FileNotFoundError|No such file|Connection refused|ConnectionRefused", text):
        return (
            f"Docker: no engine answers at {where}.\n"
            "Start it (`sudo systemctl start docker`), install it "
            "(https://docs.docker.com/engine/install/), or set DOCKER_HOST."
        )
    return f"Docker: the engine at {where} does not answer as one: {text}"


def start_refused(error: Exception, spec: ServerSpec) -> LaunchError:
    """The error for a container that could not be created or started."""
    from pytest_vllm.diagnosis import diagnose
    from pytest_vllm.servers.obituary import for_reports

    said = str(getattr(error, "explanation", None) or error)
    found = diagnose("", docker_error=said, spec=spec)
    advice = (
        "The engine's own log may say more: `journalctl -u docker`."
        if found.cause == "unknown"
        else f"{found.title} {found.remedy}"
    )
    refused = StartFailed(
        f"Docker refused to start a container of {spec.image} for {spec.model}.\n"
        f"It says: {said}\n{advice}"
    )
    refused.diagnosis = for_reports(found)
    return refused
