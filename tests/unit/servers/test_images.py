from __future__ import annotations

import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import docker.errors
import pytest

from pytest_vllm.errors import ImageError
from pytest_vllm.servers import images

REFERENCE = "vllm/vllm-openai-rocm:v0.28.0"


class Engine:
    """A Docker client with some images and a registry behind it; a fake, since it must fail."""

    def __init__(self, *here: str, pull: Iterable[dict[str, Any]] | Exception = ()) -> None:
        self.here = set(here)
        self.pulled: list[tuple[str, str]] = []
        self._pull = pull
        self.images = self
        self.api = SimpleNamespace(pull=self.pull)

    def get(self, reference: str) -> str:
        if reference != reference.lower():
            raise docker.errors.APIError("400", explanation="invalid reference format")
        if reference not in self.here:
            raise docker.errors.ImageNotFound("404")
        return f"image of {reference}"

    def pull(self, repository: str, tag: str, **how: bool) -> Iterable[dict[str, Any]]:
        assert how == {"stream": True, "decode": True}
        self.pulled.append((repository, tag))
        if isinstance(self._pull, Exception):
            raise self._pull
        if not any("error" in event for event in self._pull):
            self.here.add(f"{repository}:{tag}")
        return self._pull


def ensure(engine: Any, pull: str = "missing", reference: str = REFERENCE) -> list[str]:
    """What is told while the image is got."""
    told: list[str] = []
    images.ensure(engine, reference, pull, told.append)
    return told


def downloading(layer: str, current: int, total: int) -> dict[str, Any]:
    detail = {"current": current, "total": total}
    return {"id": layer, "status": "Downloading", "progressDetail": detail}


@pytest.mark.parametrize(
    ("reference", "with_tag"),
    [
        ("rocm/vllm", "rocm/vllm:latest"),
        ("vllm-rocm:v1.1", "vllm-rocm:v1.1"),
        ("registry:5000/vllm", "registry:5000/vllm:latest"),
        ("registry:5000/team/vllm:v1", "registry:5000/team/vllm:v1"),
        ("vllm@sha256:1f3a", "vllm@sha256:1f3a"),
        ("sha256:1f3a", "sha256:1f3a"),
    ],
)
def test_a_name_without_a_tag_means_latest(reference: str, with_tag: str) -> None:
    assert images.with_tag(reference) == with_tag


@pytest.mark.parametrize("platform", ["rocm", "cuda", "cpu"])
def test_each_platform_has_the_official_image_at_a_version(platform: str) -> None:
    assert re.fullmatch(r"vllm/vllm-openai(-rocm|-cpu)?:v\d+\.\d+\.\d+", images.DEFAULTS[platform])


@pytest.mark.parametrize("pull", ["missing", "never"])
def test_an_image_that_is_here_is_not_pulled(pull: str) -> None:
    engine = Engine(REFERENCE)
    ensure(engine, pull)
    assert engine.pulled == []


@pytest.mark.parametrize(
    ("here", "pull"), [((), "missing"), ((), "always"), ((REFERENCE,), "always")]
)
def test_an_image_is_pulled_when_it_is_missing_or_always(here: tuple[str, ...], pull: str) -> None:
    engine = Engine(*here)
    ensure(engine, pull)
    assert engine.pulled == [("vllm/vllm-openai-rocm", "v0.28.0")]


def test_a_missing_image_that_may_not_be_pulled_is_an_error_with_the_command() -> None:
    with pytest.raises(ImageError, match=f"docker pull {REFERENCE}"):
        ensure(Engine(), "never")


def test_the_tag_latest_is_pointed_out() -> None:
    told = ensure(Engine("rocm/vllm:latest"), reference="rocm/vllm:latest")
    assert told == ["rocm/vllm:latest: the tag `latest` moves; the report has the image id"]


def test_what_is_no_name_of_an_image_is_an_error_in_the_engines_words() -> None:
    with pytest.raises(ImageError, match=r"'Foo:v1' as the name of an image: invalid reference"):
        ensure(Engine(), reference="Foo:v1")


def test_a_pull_tells_its_share_in_steps_of_ten_percent() -> None:
    shares = [downloading("a", mb * 10**6, 10**9) for mb in (50, 120, 180, 190, 310, 1000)]
    assert ensure(Engine(pull=shares)) == [
        f"pulling {REFERENCE}",
        "pulling the image: 10 % of 1.0 GB known so far",
        "pulling the image: 30 % of 1.0 GB known so far",
        "pulling the image: 100 % of 1.0 GB known so far",
    ]


def test_a_pull_adds_up_its_layers_and_never_goes_back() -> None:
    layers = [downloading("a", 30, 60), downloading("b", 0, 40), downloading("b", 40, 40)]
    assert [line.split()[3] for line in ensure(Engine(pull=layers))[1:]] == ["50", "70"]


@pytest.mark.parametrize(
    "event",
    [{"status": "Pulling from vllm"}, {"status": "Downloading"}, downloading("a", 5, 0)],
)
def test_events_without_a_share_tell_nothing(event: dict[str, Any]) -> None:
    assert ensure(Engine(pull=[event])) == [f"pulling {REFERENCE}"]


@pytest.mark.parametrize(
    "failure",
    [
        [downloading("a", 1, 10), {"error": "manifest unknown"}],
        docker.errors.APIError("404", explanation="manifest unknown"),
        ConnectionError("manifest unknown"),
    ],
    ids=["event", "api", "network"],
)
def test_a_pull_that_fails_is_an_error_with_the_reason_and_the_way_out(
    failure: list[dict[str, Any]] | Exception,
) -> None:
    with pytest.raises(ImageError, match="could not be pulled: manifest unknown") as caught:
        ensure(Engine(pull=failure))
    assert "docker build -f docker/Dockerfile.cpu" in str(caught.value)


def test_a_pull_after_which_the_image_is_still_missing_is_an_error() -> None:
    engine = Engine()
    engine.get = lambda reference: Engine.get(Engine(), reference)  # type: ignore[method-assign]
    with pytest.raises(ImageError, match=r"pulled .* and does not list it"):
        ensure(engine)


@pytest.mark.parametrize(
    ("attrs", "digest"),
    [
        ({"RepoDigests": ["vllm@sha256:1f3a", "other@sha256:2"]}, "sha256:1f3a"),
        ({"RepoDigests": []}, ""),
        ({}, ""),
    ],
)
def test_the_report_has_the_digest_of_an_image_that_was_pulled(
    attrs: dict[str, list[str]], digest: str
) -> None:
    image: Any = SimpleNamespace(id="sha256:9", attrs=attrs)
    assert images.facts(image, "vllm:v1") == {
        "image": "vllm:v1",
        "image_id": "sha256:9",
        "image_digest": digest,
    }
