"""Server: what a test gets; Instance: the live thing behind it, which only its pool touches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pytest_vllm.models.capabilities import Capabilities
    from pytest_vllm.spec import ServerSpec


@dataclass(frozen=True)
class State:
    """Whether a server lives, and if not, how it ended."""

    running: bool
    exit_code: int | None = None
    oom_killed: bool | None = None

    def __str__(self) -> str:
        if self.running:
            return "running"
        if self.oom_killed:
            return f"killed for lack of memory (OOM), exit code {self.exit_code}"
        if self.exit_code is not None and self.exit_code < 0:
            return f"killed by signal {-self.exit_code}"
        return f"exit code {'unknown' if self.exit_code is None else self.exit_code}"


class Instance(Protocol):
    """A server that was started (or found), ready or not."""

    @property
    def name(self) -> str:
        """What a person calls it: the container's name, `process 4711`."""

    @property
    def log_path(self) -> Path | None:
        """Its log file, growing while it runs."""

    @property
    def facts(self) -> Mapping[str, str]:
        """For the reports: image, image_id, image_digest, container, pid …"""

    @property
    def look_closer(self) -> tuple[str, ...]:
        """Commands that a person can paste."""

    @property
    def base_url(self) -> str | None:
        """The server's address, or None while it is not known yet."""

    def state(self) -> State:
        """Whether it lives. Cheap: it is asked at every poll."""

    def stop(self) -> None:
        """End it, gracefully first, and remove what was made for it. Idempotent."""


@dataclass(frozen=True, repr=False)
class Server:
    """A vLLM server that is ready: what the `vllm_server` fixture gives to a test.

    Attributes:
        base_url: `http://127.0.0.1:PORT`, without `/v1`.
        model: The name to put into requests, as `/v1/models` lists it.
        spec: What was asked for, with every `auto` decided.
        name: What the container or process is called.
        log_path: The server's log, growing while it runs; None for a server at a URL.
        version: What `/version` says, or "" where the server does not say.
        startup_s: Seconds from start to ready, without the image pull; None for a URL.
        capabilities: What it can do, and who said so.
        facts: Image reference, id and digest, container …, as strings.
        phases: (phase, seconds since the start) in the order of the log.
        notes: Remarks for the report.
    """

    base_url: str
    model: str
    spec: ServerSpec
    name: str
    log_path: Path | None
    version: str
    startup_s: float | None
    capabilities: Capabilities
    facts: Mapping[str, str] = field(default_factory=dict)
    phases: tuple[tuple[str, float], ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        # pytest shows it above every failure.
        return f"<Server {self.model} at {self.base_url}>"

    def url(self, path: str) -> str:
        """The full address of a path: `server.url("/v1/models")`."""
        return f"{self.base_url}{path}"
