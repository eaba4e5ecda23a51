"""Pulling an image from a real registry, on loopback (Debian's docker-registry)."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.errors import ImageError
from pytest_vllm.servers import images
from tests.e2e.conftest import missing

CONFIG = """
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: "127.0.0.1:0"}}
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry; the kernel chooses its port."""
    program = shutil.which("docker-registry")
    if program is None:
        missing("no docker-registry: apt-get install docker-registry")
    folder = tmp_path_factory.mktemp("registry")
    config = folder / "config.yml"
    config.write_text(CONFIG.format(root=folder))
    process = subprocess.Popen(
        [str(program), "serve", str(config)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                yield found[1]
                break
        else:
            pytest.fail("docker-registry ended before it listened")
    finally:
        process.terminate()
        process.communicate()


@pytest.fixture
def pushed(docker_client: Any, registry: str, tmp_path: Path) -> Iterator[str]:
    """A small image in the registry that is not on this machine any more."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        content = tarfile.TarInfo("hello")
        content.size = 2_000_000
        archive.addfile(content, io.BytesIO(bytes(2_000_000)))
    repository = f"{registry}/tiny"
    docker_client.api.import_image_from_data(data.getvalue(), repository=repository, tag="v1")
    docker_client.images.push(repository, tag="v1")
    docker_client.images.remove(f"{repository}:v1", force=True)
    yield f"{repository}:v1"
    for image in docker_client.images.list(name=repository):
        docker_client.images.remove(image.id, force=True)


def test_a_missing_image_is_pulled_and_has_a_digest(docker_client: Any, pushed: str) -> None:
    told: list[str] = []
    image = images.ensure(docker_client, pushed, "missing", told.append)
    assert told[0] == f"pulling {pushed}"
    assert images.facts(image, pushed)["image_digest"].startswith("sha256:")


def test_an_image_that_is_here_is_not_pulled(docker_client: Any, pushed: str) -> None:
    images.ensure(docker_client, pushed, "missing", print)
    told: list[str] = []
    images.ensure(docker_client, pushed, "missing", told.append)
    assert told == []


def test_always_pulls_again(docker_client: Any, pushed: str) -> None:
    images.ensure(docker_client, pushed, "missing", print)
    told: list[str] = []
    images.ensure(docker_client, pushed, "always", told.append)
    assert told[0] == f"pulling {pushed}"


def test_a_tag_that_is_not_there_is_named_with_what_the_registry_says(
    docker_client: Any, pushed: str
) -> None:
    wrong = pushed.replace(":v1", ":v9")
    with pytest.raises(ImageError, match=rf"{re.escape(wrong)} could not be pulled: .*not found"):
        images.ensure(docker_client, wrong, "missing", print)


def test_never_does_not_pull(docker_client: Any, pushed: str) -> None:
    with pytest.raises(ImageError, match="--vllm-pull is `never`"):
        images.ensure(docker_client, pushed, "never", print)
