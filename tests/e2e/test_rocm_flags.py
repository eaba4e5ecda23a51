"""The ROCm container options, read back from a real container.

No AMD GPU is needed: device nodes of the null device stand in for /dev/kfd and the render
nodes, below a root of their own. What the container got is what `docker inspect` says.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.servers.docker import DockerLauncher
from pytest_vllm.servers.launcher import LaunchPolicy
from pytest_vllm.servers.server import Instance
from pytest_vllm.spec import ServerSpec
from tests.e2e.conftest import IMAGE, missing

KFD_GROUP, RENDER_GROUP = 44, 993


def _node(root: Path, name: str, group: int) -> None:
    path = root / "dev" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(path, 0, group)
    except PermissionError:
        missing("making device nodes needs root")


def _kfd_node(root: Path, number: int, minor: int) -> None:
    folder = root / f"sys/class/kfd/kfd/topology/nodes/{number}"
    folder.mkdir(parents=True)
    folder.joinpath("properties").write_text(f"simd_count 304\ndrm_render_minor {minor}\n")


@pytest.fixture(scope="module")
def inspected(
    docker_client: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """`docker inspect` of a container that was started for two of three GPUs."""
    root = tmp_path_factory.mktemp("machine")
    _node(root, "kfd", KFD_GROUP)
    for number, minor in enumerate((128, 136, 144)):
        _node(root, f"dri/renderD{minor}", RENDER_GROUP)
        _kfd_node(root, number, minor)
    policy = LaunchPolicy("e2e-rocm", tmp_path_factory.mktemp("logs"), "never", stop_grace_s=30)
    launcher = DockerLauncher(policy, root)
    spec = ServerSpec("known-answer/base", image=IMAGE, platform="auto", gpus=2, gpu_util=0.85)
    started: list[Instance] = []
    try:
        resolved = launcher.resolve(replace(spec, env=(("HF_TOKEN", "not-a-secret"),)))
        launcher.launch(resolved, started.append, print)
        yield docker_client.containers.get(started[0].name).attrs
    finally:
        for instance in started:
            instance.stop()


def test_the_platform_is_recognised_by_dev_kfd(inspected: dict[str, Any]) -> None:
    assert "--tensor-parallel-size=2" in inspected["Args"]


def test_kfd_and_the_wanted_render_nodes_are_passed(inspected: dict[str, Any]) -> None:
    inside = [device["PathInContainer"] for device in inspected["HostConfig"]["Devices"]]
    assert inside == ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD136"]


def test_groups_are_the_numbers_of_the_nodes_owners(inspected: dict[str, Any]) -> None:
    assert set(inspected["HostConfig"]["GroupAdd"]) == {str(KFD_GROUP), str(RENDER_GROUP)}


def test_ipc_is_the_hosts(inspected: dict[str, Any]) -> None:
    assert inspected["HostConfig"]["IpcMode"] == "host"


def test_the_documented_capability_and_seccomp_profile_are_set(inspected: dict[str, Any]) -> None:
    assert inspected["HostConfig"]["CapAdd"] in (["SYS_PTRACE"], ["CAP_SYS_PTRACE"])
    assert "seccomp=unconfined" in inspected["HostConfig"]["SecurityOpt"]


def test_the_port_is_published_on_loopback_and_chosen_by_the_engine(
    inspected: dict[str, Any],
) -> None:
    (binding,) = inspected["HostConfig"]["PortBindings"]["8000/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert binding["HostPort"] in ("", "0")


def test_an_init_process_reaps_zombies(inspected: dict[str, Any]) -> None:
    assert inspected["HostConfig"]["Init"] is True


def test_labels_name_run_owner_and_spec(inspected: dict[str, Any]) -> None:
    labels = inspected["Config"]["Labels"]
    assert labels["pytest-vllm.run"] == "e2e-rocm"
    assert f":{os.getpid()}:" in labels["pytest-vllm.owner"]
    assert len(labels["pytest-vllm.spec"]) == 16


def test_the_hub_cache_and_a_cache_volume_of_the_image_are_mounted(
    inspected: dict[str, Any],
) -> None:
    targets = {mount["Destination"]: mount for mount in inspected["Mounts"]}
    assert targets["/root/.cache/huggingface/hub"]["Type"] == "bind"
    assert targets["/root/.cache/vllm"]["Name"].startswith("pytest-vllm-cache-")


def test_vllms_own_start_limit_follows_ours(inspected: dict[str, Any]) -> None:
    assert "VLLM_ENGINE_READY_TIMEOUT_S=1860" in inspected["Config"]["Env"]


def test_the_token_is_no_argument(inspected: dict[str, Any]) -> None:
    assert not any("not-a-secret" in word for word in inspected["Args"])
