"""Container images: which one by default, its tag, pulling it, and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.errors import ImageError

if TYPE_CHECKING:
    import docker
    from docker.models.images import Image

    from pytest_vllm.servers.launcher import Say

#: The official image of each platform, at a version tag that exists.
DEFAULTS = {
    "rocm": "vllm/vllm-openai-rocm:v0.28.0",
    "cuda": "vllm/vllm-openai:v0.28.0",
    "cpu": "vllm/vllm-openai-cpu:v0.28.0",
}

_BUILT_HERE = """\
    docker build -f docker/Dockerfile.cpu -t vllm-cpu:v0.32.0 .
    pytest --vllm-image vllm-cpu:v0.32.0 …"""


def with_tag(reference: str) -> str:
    """The reference with its tag: without tag and digest, Docker means `:latest`."""
    name = reference.rsplit("/", 1)[-1]
    return reference if ":" in name or "@" in reference else f"{reference}:latest"


def ensure(client: docker.DockerClient, reference: str, pull: str, say: Say) -> Image:
    """Get the image, pulling it as the policy says.

    Raises:
        ImageError: It is not here and may not, or could not, be pulled.
    """
    if reference.endswith(":latest"):
        say(f"{reference}: the tag `latest` moves; the report has the image id")
    here = _local(client, reference)
    if here is not None and pull != "always":
        return here
    if pull == "never":
        raise ImageError(
            f"The image {reference} is not on this machine, and --vllm-pull is `never`.\n"
            f"Get it with `docker pull {reference}`, or take --vllm-pull missing."
        )
    _pull(client, reference, say)
    image = _local(client, reference)
    if image is None:
        raise ImageError(
            f"The engine pulled {reference} and does not list it: try `docker images`."
        )
    return image


def is_here(client: docker.DockerClient, reference: str) -> bool:
    """Whether the engine has an image."""
    return _local(client, reference) is not None


def facts(image: Image, reference: str) -> dict[str, str]:
    """What every report says of the image; a locally built one has no digest."""
    digests = image.attrs.get("RepoDigests") or []
    digest = str(digests[0]).rpartition("@")[2] if digests else ""
    return {"image": reference, "image_id": str(image.id), "image_digest": digest}


def _local(client: docker.DockerClient, reference: str) -> Image | None:
    import docker

    try:
        return client.images.get(reference)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        raise ImageError(
            f"The engine does not take {reference!r} as the name of an image: {error.explanation}"
        ) from None


def _pull(client: docker.DockerClient, reference: str, say: Say) -> None:
    import docker
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    say(f"pulling {reference}")
    try:
        events = client.api.pull(repository, tag=tag, stream=True, decode=True)
        error = _follow(events, say)
    except (docker.errors.DockerException, OSError) as failure:
        error = str(getattr(failure, "explanation", None) or failure)
    if error:
        raise ImageError(
            f"The image {reference} could not be pulled: {error}\n"
            f"Check the name and the network with `docker pull {reference}`; a private one needs "
            f"`docker login`. An image that is built here is used without a pull, for example:\n"
            f"{_BUILT_HERE}"
        )


def _follow(events: Iterable[Mapping[str, Any]], say: Say) -> str:
    """Tell the share of the bytes that are here, in steps of 10 %; return the error, if any."""
    layers: dict[str, tuple[int, int]] = {}
    told = 0
    for event in events:
        if event.get("error"):
            return str(event["error"])
        detail = event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and detail.get("total"):
            layers[str(event.get("id"))] = (detail.get("current", 0), detail["total"])
            done, total = (sum(column) for column in zip(*layers.values(), strict=True))
            if (percent := 100 * done // total) >= told + 10:
                told = percent - percent % 10
                say(f"pulling the image: {told} % of {total / 1e9:.1f} GB known so far")
    return ""
