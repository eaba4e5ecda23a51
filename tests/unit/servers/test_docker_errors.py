from __future__ import annotations

import socket
from pathlib import Path

import docker.errors
import pytest

from pytest_vllm.errors import LauncherUnavailable, StartFailed
from pytest_vllm.servers.docker_errors import connect, start_refused
from pytest_vllm.spec import ServerSpec

SPEC = ServerSpec("facebook/opt-125m", image="vllm:v1")

#: What an engine says (20.10 and 28), and what a person should do.
REFUSALS = [
    (
        'error gathering device information while adding custom device "/dev/kfd": no such file or '
        "directory",
        "/dev/kfd does not exist on this host. Load the driver",
    ),
    (
        'could not select device driver "" with capabilities: [[gpu]]',
        "--gpus is for NVIDIA with the container toolkit",
    ),
    (
        "Unable to find group render: no matching entries in group file",
        "The group render does not exist in the image",
    ),
    ("write /var/lib/docker/tmp/x: no space left on device", "The disk is full"),
    ("No such image: sha256:1f3a", "The image is not there"),
    ("something new", "journalctl -u docker"),
]


@pytest.mark.parametrize(("said", "advice"), REFUSALS)
def test_a_refusal_is_told_with_the_engines_words_and_what_to_do(said: str, advice: str) -> None:
    error = docker.errors.APIError("500 Server Error", explanation=said)
    text = str(start_refused(error, SPEC))
    assert f"It says: {said}\n" in text
    assert advice in text


def test_a_refusal_names_image_and_model() -> None:
    text = str(start_refused(docker.errors.DockerException("x"), SPEC))
    assert text.startswith("Docker refused to start a container of vllm:v1 for facebook/opt-125m.")


def test_a_refusal_is_a_failed_start() -> None:
    assert isinstance(start_refused(OSError("x"), SPEC), StartFailed)


def unavailable(monkeypatch: pytest.MonkeyPatch, host: str) -> str:
    """What is said when Docker is looked for at a host."""
    monkeypatch.setenv("DOCKER_HOST", host)
    with pytest.raises(LauncherUnavailable) as caught:
        connect()
    return str(caught.value)


def test_without_an_engine_the_place_and_the_remedies_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = unavailable(monkeypatch, f"unix://{tmp_path}/docker.sock")
    assert f"no engine answers at unix://{tmp_path}/docker.sock (from DOCKER_HOST)" in text
    assert "sudo systemctl start docker" in text


def test_a_dead_port_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no engine answers at tcp://127.0.0.1:1" in unavailable(monkeypatch, "tcp://127.0.0.1:1")


def test_an_address_that_is_none_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not answer as one" in unavailable(monkeypatch, "nonsense://x")


def test_a_socket_that_may_not_be_used_is_a_matter_of_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: socket.socket, address: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    text = unavailable(monkeypatch, "")
    assert "unix:///var/run/docker.sock (the default) is there" in text
    assert "sudo usermod -aG docker" in text
