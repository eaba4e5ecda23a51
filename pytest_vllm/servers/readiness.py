"""When is a server ready? Alive, healthy, the right one, and able to generate a token.

One deadline; liveness at every poll; every transport error means "not yet" (behind Docker's
proxy a server that is not there yet resets connections). A server was seen that answered
/health and died on its first generation, so one token is part of being ready.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vllm.servers.argv import served_name
from pytest_vllm.servers.liveness import health
from pytest_vllm.servers.logs import LogFollower
from pytest_vllm.servers.obituary import start_failed
from pytest_vllm.servers.phases import PhaseTracker

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.errors import StartFailed
    from pytest_vllm.servers.launcher import LaunchPolicy, Say
    from pytest_vllm.servers.server import Instance
    from pytest_vllm.spec import ServerSpec

#: Seconds between polls: a ready server is seen within about this time.
POLL_S = 0.03
#: A server that already runs should answer; this much is for one that is just coming up.
EXTERNAL_LIMIT_S = 60.0


@dataclass(frozen=True)
class Ready:
    """What was learnt while waiting."""

    base_url: str
    model: str
    startup_s: float
    phases: tuple[tuple[str, float], ...]
    notes: tuple[str, ...]


class Startup:
    """The wait for one server."""

    def __init__(
        self,
        instance: Instance,
        spec: ServerSpec,
        policy: LaunchPolicy,
        say: Say,
        download: Path | None = None,
    ) -> None:
        self._instance = instance
        self._spec = spec
        self._policy = policy
        self._say = say
        self._download = download
        self._began = self._progress = time.monotonic()
        self._lines = LogFollower(instance.log_path)
        self._tracker = PhaseTracker()
        self._bytes = 0
        self._next_look = 0.0
        external = spec.launcher == "external"
        self._limit = EXTERNAL_LIMIT_S if external else policy.startup_timeout_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def wait(self, client_for: Callable[[str], httpx.Client]) -> Ready:
        """Wait until the server is ready.

        Raises:
            StartFailed: It exited, stalled, ran out of time or is another server.
        """
        url = self._wait_healthy()
        with client_for(url) as client:
            model, notes = self._identify(client)
            notes += self._first_token(client, model)
        self._read_log()
        return Ready(url, model, self.elapsed_s, tuple(self._tracker.seen), notes)

    def _wait_healthy(self) -> str:
        while True:
            self._read_log()
            self._check_alive()
            self._check_time()
            url = self._instance.base_url
            if url and _healthy(url):
                return url
            time.sleep(POLL_S)

    def _read_log(self) -> None:
        for line in self._lines.new_lines():
            self._progress = time.monotonic()
            if phase := self._tracker.feed(line, self.elapsed_s):
                self._say(phase)

    def _check_alive(self, when: str = "") -> None:
        state = self._instance.state()
        if not state.running:
            if self._spec.launcher == "external":
                raise self._failure(
                    "nothing accepts connections there", "Is the server up? Try the curl."
                )
            raise self._failure(f"it ended{when}: {state}")

    def _check_time(self) -> None:
        now = time.monotonic()
        if self._grew(now):
            self._progress = now
        if self.elapsed_s > self._limit:
            raise self._failure(
                f"it was not ready after {self._limit:.0f} s",
                "Its log was still moving: allow more with --vllm-startup-timeout."
                if self._began < self._progress > now - self._policy.stall_timeout_s / 2
                else "",
            )
        if now - self._progress > self._policy.stall_timeout_s:
            raise self._failure(
                f"it stalled: no new log line and no download for "
                f"{self._policy.stall_timeout_s:.0f} s",
                "If this step may take that long, allow more with --vllm-stall-timeout.",
            )

    def _grew(self, now: float) -> bool:
        """Whether the download of the weights moved; looked at every 5 s."""
        if self._download is None or now < self._next_look:
            return False
        self._next_look = now + 5
        before, self._bytes = self._bytes, _size(self._download)
        return self._bytes > before

    def _identify(self, client: httpx.Client) -> tuple[str, tuple[str, ...]]:
        """The name for requests; for a server of ours it must be the one that we asked for."""
        names = _model_names(client)
        if not names and _wants_key(client):
            raise self._failure(
                "it wants a key, and refuses the one that it was given or that is missing",
                "Set VLLM_API_KEY in the environment.",
            )
        wanted = served_name(self._spec)
        if wanted in names:
            return wanted, ()
        if self._spec.launcher == "external":
            return self._external_name(names, wanted)
        raise self._failure(
            f"another server answered: it serves {', '.join(names) or 'no model'}, not {wanted}"
        )

    def _external_name(self, names: list[str], wanted: str) -> tuple[str, tuple[str, ...]]:
        if wanted:  # a router may serve a model under a name that it does not list
            return wanted, (f"/v1/models does not list {wanted}",)
        if names:
            return names[0], ()
        raise self._failure("it does not say which model it serves", "Name it with --vllm-model.")

    def _first_token(self, client: httpx.Client, model: str) -> tuple[str, ...]:
        """Generate one token. A refusal is for the tests to judge; a death is a failed start."""
        import httpx

        request = {"model": model, "prompt": "Hi", "max_tokens": 1}
        left = min(max(30.0, self._limit - self.elapsed_s), self._policy.stall_timeout_s)
        try:
            answer = client.post("/v1/completions", json=request, timeout=left)
        except httpx.HTTPError as error:
            self._check_engine()
            what = f"it was healthy and then failed its first generation ({error!r})"
            raise self._failure(what) from None
        if answer.status_code == 200:
            return ()
        if answer.status_code >= 500:
            self._check_engine()
        return (
            f"the first completion was answered with {answer.status_code}: {answer.text[:200]}",
        )

    def _check_engine(self) -> None:
        """After an error: a dying engine exits some moments later."""
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            self._check_alive(" during its first generation")
            time.sleep(POLL_S)

    def _failure(self, what: str, advice: str = "") -> StartFailed:
        self._read_log()
        phase = self._tracker.seen[-1][0] if self._tracker.seen else ""
        return start_failed(self._instance, self._spec, what, self.elapsed_s, phase, advice)


def _healthy(url: str) -> bool:
    """Whether /health says so; a server without it (404) is as healthy as it can say."""
    try:
        return health(url) in (200, 401, 403, 404)
    except TimeoutError:
        return False


def _model_names(client: httpx.Client) -> list[str]:
    import httpx

    try:
        answer = client.get("/v1/models")
        data: Any = answer.json() if answer.status_code == 200 else {}
        return [str(entry["id"]) for entry in data.get("data", [])]
    except (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _wants_key(client: httpx.Client) -> bool:
    import httpx

    try:
        return client.get("/v1/models").status_code in (401, 403)
    except httpx.HTTPError:
        return False


def _size(folder: Path) -> int:
    """Bytes below a folder that somebody is filling."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue  # renamed from .incomplete to its final name meanwhile
    return total
