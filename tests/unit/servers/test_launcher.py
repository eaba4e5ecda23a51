from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_vllm.errors import LaunchError, LauncherUnavailable
from pytest_vllm.servers.docker import DockerLauncher
from pytest_vllm.servers.external import ExternalLauncher
from pytest_vllm.servers.launcher import LaunchPolicy, launcher_for, with_platform
from pytest_vllm.servers.owner import owner_label
from pytest_vllm.servers.process import ProcessLauncher
from pytest_vllm.spec import ServerSpec
from tests.unit.servers.fakes import FakeHttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_vllm.servers.server import Instance

POLICY = LaunchPolicy("run", Path("/nowhere"))
AUTO = ServerSpec("m", launcher="auto")


def answers(spec: ServerSpec) -> ServerSpec:
    return spec


def missing(what: str) -> Callable[[ServerSpec], ServerSpec]:
    def refuse(spec: ServerSpec) -> ServerSpec:
        raise LauncherUnavailable(f"{what} is not here: do this.")

    return refuse


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Decide what the machine has."""

    def has(*, docker: bool, process: bool) -> None:
        for kind, there in ((DockerLauncher, docker), (ProcessLauncher, process)):
            found = answers if there else missing(kind.__name__)
            monkeypatch.setattr(kind, "resolve", lambda self, spec, found=found: found(spec))

    return has


@pytest.mark.parametrize(
    ("name", "kind"),
    [("docker", DockerLauncher), ("process", ProcessLauncher), ("external", ExternalLauncher)],
)
def test_a_launcher_is_chosen_by_its_name_whatever_the_machine_has(
    machine: Callable[..., None], name: str, kind: type
) -> None:
    machine(docker=False, process=False)
    assert type(launcher_for(replace(AUTO, launcher=name), POLICY)) is kind


@pytest.mark.parametrize(
    ("docker", "process", "kind"),
    [(True, True, DockerLauncher), (True, False, DockerLauncher), (False, True, ProcessLauncher)],
)
def test_auto_takes_docker_and_else_a_local_vllm(
    machine: Callable[..., None], docker: bool, process: bool, kind: type
) -> None:
    machine(docker=docker, process=process)
    assert type(launcher_for(AUTO, POLICY)) is kind


def test_auto_with_nothing_tells_what_was_tried_and_the_third_way(
    machine: Callable[..., None],
) -> None:
    machine(docker=False, process=False)
    with pytest.raises(LauncherUnavailable) as caught:
        launcher_for(AUTO, POLICY)
    text = str(caught.value)
    assert text.startswith("There is nothing to start m with on ")
    assert "DockerLauncher is not here: do this." in text
    assert "ProcessLauncher is not here: do this." in text
    assert "--vllm-url" in text


def test_auto_does_not_hide_any_other_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: DockerLauncher, spec: ServerSpec) -> ServerSpec:
        raise LaunchError("too few GPUs")

    monkeypatch.setattr(DockerLauncher, "resolve", broken)
    with pytest.raises(LaunchError, match="too few GPUs"):
        launcher_for(AUTO, POLICY)


@pytest.mark.parametrize(("asked", "found"), [("auto", "cuda"), ("cpu", "cpu")])
def test_only_an_open_platform_is_decided(asked: str, found: str) -> None:
    assert with_platform(replace(AUTO, platform=asked), "cuda").platform == found


def test_an_owner_is_host_pid_and_start_so_that_a_pid_that_is_used_again_is_no_alibi() -> None:
    _, pid, start = owner_label().rsplit(":", 2)
    assert psutil.Process(int(pid)) == psutil.Process()
    assert float(start) == pytest.approx(psutil.Process().create_time(), abs=0.6)


# --- a server that already runs ----------------------------------------------------------------


def external(url: str) -> Instance:
    spec = ServerSpec("", launcher="external", url=url)
    launcher = launcher_for(spec, POLICY)
    return launcher.launch(launcher.resolve(spec), lambda instance: None, lambda line: None)


def test_a_running_server_is_alive_while_it_accepts_connections(http: FakeHttp) -> None:
    instance = external(http.url)
    assert (instance.base_url, instance.state().running) == (http.url, True)


def test_a_url_where_nobody_is_is_not_alive() -> None:
    assert not external("http://127.0.0.1:1").state().running


def test_a_running_server_is_never_stopped(http: FakeHttp) -> None:
    instance = external(http.url)
    instance.stop()
    assert instance.state().running
