"""A server that already runs: nothing is started, nothing is stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vllm.servers.liveness import accepts
from pytest_vllm.servers.server import State

if TYPE_CHECKING:
    from pytest_vllm.servers.launcher import Say
    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec


class ExternalServer:
    """Somebody else's server, of which only the address is known."""

    def __init__(self, url: str) -> None:
        self.name = url
        self.base_url: str | None = url
        self.log_path: Path | None = None
        self.facts: Mapping[str, str] = {}
        self.look_closer: tuple[str, ...] = ()

    def state(self) -> State:
        """Whether somebody accepts connections there."""
        return State(running=accepts(self.name))

    def stop(self) -> None:
        """Leave it alone: it is not ours."""


class ExternalLauncher:
    """Finds instead of starting."""

    def resolve(self, spec: ServerSpec) -> ServerSpec:
        """Nothing is open: platform and image are the owner's business."""
        return spec

    def launch(self, spec: ServerSpec, register: Callable[[Instance], None], say: Say) -> Instance:
        """Take the server at the URL."""
        assert spec.url is not None
        return ExternalServer(spec.url)
