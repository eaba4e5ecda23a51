from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_vllm.errors import LaunchError
from pytest_vllm.servers.mounts import Mounts, hub_dir, mounts_for
from pytest_vllm.spec import ServerSpec


def mounts(spec: ServerSpec, **config: Any) -> Mounts:
    """The mounts of a spec in an image of this configuration."""
    image: Any = SimpleNamespace(id="sha256:0123456789abcdef", attrs={"Config": config})
    return mounts_for(spec, image)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A Hugging Face cache, the folder above `hub`."""
    (tmp_path / "cache/hub").mkdir(parents=True)
    return tmp_path / "cache"


@pytest.fixture
def opt(cache: Path) -> ServerSpec:
    return ServerSpec("facebook/opt-125m", hf_cache=str(cache))


def test_a_model_of_the_hub_keeps_its_name_inside(opt: ServerSpec) -> None:
    assert mounts(opt).model == "facebook/opt-125m"


def test_the_hugging_face_cache_is_where_the_image_looks_for_it(
    opt: ServerSpec, cache: Path
) -> None:
    found = mounts(opt)
    inside = "/root/.cache/huggingface"
    assert found.volumes[str(cache / "hub")] == {"bind": f"{inside}/hub", "mode": "rw"}
    assert found.environment["HF_HUB_CACHE"] == f"{inside}/hub"
    assert found.environment["HF_HOME"] == inside


def test_the_hf_home_of_the_image_counts(opt: ServerSpec, cache: Path) -> None:
    found = mounts(opt, Env=["PATH=/bin", "HF_HOME=/data/hf"])
    assert found.volumes[str(cache / "hub")]["bind"] == "/data/hf/hub"


def test_vllms_own_cache_is_a_volume_of_the_image(opt: ServerSpec) -> None:
    found = mounts(opt)
    volume = found.volumes["pytest-vllm-cache-0123456789ab"]
    assert volume == {"bind": "/root/.cache/vllm", "mode": "rw"}
    assert found.environment["VLLM_CACHE_ROOT"] == "/root/.cache/vllm"


@pytest.mark.parametrize("user", ["2000:0", "vllm"])
def test_an_image_of_another_user_gets_no_volume_that_only_root_may_write(
    opt: ServerSpec, user: str
) -> None:
    found = mounts(opt, User=user, Env=["HOME=/home/vllm"])
    assert not [source for source in found.volumes if source.startswith("pytest-vllm-cache")]
    assert found.environment == {
        "HF_HOME": "/home/vllm/.cache/huggingface",
        "HF_HUB_CACHE": "/home/vllm/.cache/huggingface/hub",
    }


@pytest.mark.parametrize("user", ["", "root", "0", "0:0"])
def test_roots_home_is_slash_root(opt: ServerSpec, user: str) -> None:
    assert mounts(opt, User=user).environment["HF_HOME"] == "/root/.cache/huggingface"


def test_a_local_model_is_mounted_read_only(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.mkdir()
    found = mounts(ServerSpec(str(path), hf_cache=str(cache)))
    assert found.model == "/models/mine"
    assert found.volumes[str(path)] == {"bind": "/models/mine", "mode": "ro"}


def test_a_snapshot_of_the_cache_is_mounted_with_the_blobs_that_it_links_to(
    cache: Path,
) -> None:
    entry = cache / "hub/models--a--b"
    snapshot = entry / "snapshots/0a1b"
    snapshot.mkdir(parents=True)
    found = mounts(ServerSpec(str(snapshot), hf_cache=str(cache)))
    assert found.model == "/models/models--a--b/snapshots/0a1b"
    assert found.volumes[str(entry)] == {"bind": "/models/models--a--b", "mode": "ro"}


def test_a_known_answer_model_is_built_and_mounted(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = tmp_path / "built-base"
    monkeypatch.setattr("pytest_vllm.models.known_answer.build", lambda name: built)
    found = mounts(ServerSpec("known-answer/base", hf_cache=str(cache)))
    assert (found.model, found.volumes[str(built)]["mode"]) == ("/models/built-base", "ro")


# --- which folder is the Hugging Face cache ----------------------------------------------------


def test_the_cache_option_may_name_the_folder_above_hub(cache: Path, opt: ServerSpec) -> None:
    assert hub_dir(opt) == cache / "hub"


def test_the_cache_option_may_name_the_folder_with_the_models(tmp_path: Path) -> None:
    (tmp_path / "models--a--b").mkdir()
    assert hub_dir(ServerSpec("a/b", hf_cache=str(tmp_path))) == tmp_path


def test_without_the_option_the_environment_decides(tmp_path: Path) -> None:
    environ = {"HF_HUB_CACHE": str(tmp_path / "elsewhere")}
    assert hub_dir(ServerSpec("a/b"), environ) == tmp_path / "elsewhere"


def test_a_cache_that_is_not_there_is_made(tmp_path: Path) -> None:
    assert hub_dir(ServerSpec("a/b", hf_cache=str(tmp_path / "new"))).is_dir()


def test_a_cache_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file/cache"
    with pytest.raises(LaunchError, match=f"The Hugging Face cache {path}/hub could not be made"):
        hub_dir(ServerSpec("a/b", hf_cache=str(path)))
