"""A vLLM server in a container, through the Docker SDK.

The order is always: create, register for clean-up, start. A container whose start failed
stays behind in state `created` and keeps its devices, so it is removed by its id as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.servers import argv, devices, images
from pytest_vllm.servers.container import Container
from pytest_vllm.servers.docker_errors import connect, start_refused
from pytest_vllm.servers.launcher import LaunchPolicy, Say, with_platform
from pytest_vllm.servers.mounts import Mounts, mounts_for
from pytest_vllm.servers.owner import owner_label

if TYPE_CHECKING:
    import docker

    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

#: vLLM's port inside the container, always; outside, the engine chooses.
PORT = 8000


class DockerLauncher:
    """Starts containers on the engine that the Docker client is set up for."""

    def __init__(self, policy: LaunchPolicy, root: Path = Path("/")) -> None:
        self._policy = policy
        self._root = root
        self._client: docker.DockerClient | None = None

    @property
    def client(self) -> docker.DockerClient:
        """The client, made at first use.

        Raises:
            LauncherUnavailable: No engine answers, with what was tried.
        """
        self._client = self._client or connect()
        return self._client

    def resolve(self, spec: ServerSpec) -> ServerSpec:
        """Decide the platform and the image."""
        _ = self.client
        spec = with_platform(spec, devices.detect_platform(self._root))
        image = images.with_tag(spec.image or images.DEFAULTS[spec.platform])
        return replace(spec, launcher="docker", image=image)

    def has_image(self, reference: str) -> bool:
        """Whether the engine has an image."""
        return images.is_here(self.client, reference)

    def launch(self, spec: ServerSpec, register: Callable[[Instance], None], say: Say) -> Instance:
        """Create a container for a resolved spec, register it, start it."""
        assert spec.image is not None
        exposed = devices.container_devices(spec.platform, spec.gpus, self._root)
        image = images.ensure(self.client, spec.image, self._policy.pull, say)
        mounts = mounts_for(spec, image)
        common = self._options(spec, image, mounts) | exposed.options
        flags = argv.flags(spec, mounts.model, host="0.0.0.0", port=PORT)  # noqa: S104 - inside the container only
        entrypoint = (image.attrs.get("Config") or {}).get("Entrypoint")
        facts = images.facts(image, spec.image)
        command = argv.command(entrypoint, mounts.model, flags)
        instance = self._create(spec, str(image.id), command, common, facts)
        register(instance)
        instance.start()
        return instance

    def _create(
        self,
        spec: ServerSpec,
        image_id: str,
        command: argv.Command,
        options: Mapping[str, Any],
        facts: Mapping[str, str],
    ) -> Container:
        import docker

        own: dict[str, Any] = (
            {} if command.entrypoint is None else {"entrypoint": list(command.entrypoint)}
        )
        try:
            created = self.client.containers.create(
                image_id, command=list(command.words), **own, **options
            )
        except docker.errors.DockerException as error:
            raise start_refused(error, spec) from None
        return Container(created, self._policy, spec, facts, PORT)

    def _options(self, spec: ServerSpec, image: Any, mounts: Mounts) -> dict[str, Any]:
        ready_s = self._policy.startup_timeout_s
        env = mounts.environment | argv.environment(spec, os.environ, ready_s)
        return {
            "environment": env,
            "labels": {
                "pytest-vllm.run": self._policy.run_id,
                "pytest-vllm.owner": owner_label(),
                "pytest-vllm.spec": spec.signature(),
                "pytest-vllm.model": spec.model,
            },
            "volumes": mounts.volumes,
            "ports": {f"{PORT}/tcp": ("127.0.0.1", None)},
            # tini reaps the workers' zombies and hands on SIGTERM: without it, stopping
            # leaks GPU memory (sgl-project/sglang PR 30431).
            "init": True,
            "stdin_open": False,
            "detach": True,
        }
