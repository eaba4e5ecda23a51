"""One container: start, address, log file, end. The Instance of the Docker launcher."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.servers import logs
from pytest_vllm.servers.docker_errors import start_refused
from pytest_vllm.servers.server import State

if TYPE_CHECKING:
    from docker.models.containers import Container as DockerContainer

    from pytest_vllm.servers.launcher import LaunchPolicy
    from pytest_vllm.spec import ServerSpec


class Container:
    """A created container; `start` brings it to life."""

    def __init__(
        self,
        container: DockerContainer,
        policy: LaunchPolicy,
        spec: ServerSpec,
        facts: Mapping[str, str],
        port: int,
    ) -> None:
        self._container = container
        self._policy = policy
        self._spec = spec
        self._port = port
        self._end: State | None = None
        self._removed = False
        self._follower: threading.Thread | None = None
        self._url: str | None = None
        self._lock = threading.Lock()
        self.name = str(container.name)
        self.log_path: Path | None = logs.unused(policy.log_dir / logs.log_name(spec.id))
        self.facts = {**facts, "container": self.name, "container_id": str(container.id)}
        self.look_closer = (
            f"docker logs {self.name}",
            f"docker exec -it {self.name} bash",
        )

    def start(self) -> None:
        """Start it and follow its log.

        Raises:
            StartFailed: The engine refused; the container is removed.
        """
        import docker

        try:
            self._container.start()
        except docker.errors.DockerException as error:
            self.stop()
            raise start_refused(error, self._spec) from None
        self._follower = threading.Thread(target=self._follow, name=self.name, daemon=True)
        self._follower.start()

    @property
    def base_url(self) -> str | None:
        """The published address, chosen by the engine and read back."""
        import docker

        if self._url is None:
            with contextlib.suppress(docker.errors.NotFound):  # removed meanwhile
                self._container.reload()
            ports: dict[str, Any] = self._container.attrs["NetworkSettings"]["Ports"] or {}
            if published := ports.get(f"{self._port}/tcp"):
                self._url = f"http://127.0.0.1:{published[0]['HostPort']}"
        return self._url

    def state(self) -> State:
        """Whether it runs. While the engine still streams its log, it does: nothing to ask."""
        if self._end is not None:
            return self._end
        if self._follower is not None and self._follower.is_alive():
            return State(running=True)
        return self._inspect()

    def stop(self) -> None:
        """Stop with a grace, keep the log to its end, remove."""
        import docker

        with self._lock:
            if self._removed:
                return
            with contextlib.suppress(docker.errors.NotFound):
                try:
                    self._shut_down()
                finally:  # also when somebody loses patience with the grace: Ctrl-C
                    self._container.remove(force=True, v=True)
            self._removed = True

    def _shut_down(self) -> None:
        if self._follower is None:
            return  # never started
        self._container.stop(timeout=round(self._policy.stop_grace_s))
        self._follower.join(10)
        self._end = self._inspect()

    def _inspect(self) -> State:
        import docker

        try:
            self._container.reload()
        except docker.errors.NotFound:
            return State(running=False)
        state = self._container.attrs["State"]
        if state["Running"]:
            return State(running=True)
        self._end = State(False, state.get("ExitCode"), state.get("OOMKilled"))
        return self._end

    def _follow(self) -> None:
        """Copy the log to its file from the first byte to the last."""
        import docker
        import urllib3

        assert self.log_path is not None
        broken = (docker.errors.DockerException, urllib3.exceptions.HTTPError, OSError)
        # A client of its own: its stream must not hold up other requests, and has no read
        # time-out, since a healthy server may be silent for hours.
        with (
            contextlib.suppress(*broken),
            contextlib.closing(docker.from_env(timeout=None)) as client,  # type: ignore[arg-type]
            self.log_path.open("ab", buffering=0) as file,
        ):
            container = client.containers.get(str(self._container.id))
            for chunk in container.logs(stream=True, follow=True, stdout=True, stderr=True):
                file.write(chunk)
