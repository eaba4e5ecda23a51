"""Reading the Hugging Face cache and local model directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_vllm.models import hub


def cached(cache: Path, model: str, sha: str, *, main: str | None) -> Path:
    """A model in the cache; `main` is the commit that `refs/main` names."""
    entry = cache / ("models--" + model.replace("/", "--"))
    files = entry / "snapshots" / sha
    files.mkdir(parents=True)
    if main is not None:
        (entry / "refs").mkdir(exist_ok=True)
        (entry / "refs" / "main").write_text(main, encoding="utf-8")
    return files


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "/home/u/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old"),
        ({"HF_HUB_CACHE": "/new", "HUGGINGFACE_HUB_CACHE": "/old"}, "/new"),
        ({"HF_HUB_CACHE": "", "HF_HOME": "/h"}, "/h/hub"),
        ({"HF_HOME": "~/hf"}, "/home/u/hf/hub"),
        ({"HF_HUB_CACHE": "$SCRATCH/${WHO}/hub", "SCRATCH": "/s", "WHO": "me"}, "/s/me/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_puts_it(environ: dict[str, str], expected: str) -> None:
    assert hub.default_cache_dir({"HOME": "/home/u", **environ}) == Path(expected)


def test_main_picks_the_snapshot(tmp_path: Path) -> None:
    cached(tmp_path, "org/m", "old", main=None)
    new = cached(tmp_path, "org/m", "new", main="new\n")
    assert hub.snapshot("org/m", tmp_path) == new


def test_the_directory_above_hub_will_do(tmp_path: Path) -> None:
    files = cached(tmp_path / "hub", "org/m", "a", main="a")
    assert hub.snapshot("org/m", tmp_path) == files


def test_without_main_the_only_snapshot_counts(tmp_path: Path) -> None:
    pinned = cached(tmp_path, "org/m", "a", main=None)
    assert hub.snapshot("org/m", tmp_path) == pinned


def test_without_main_several_snapshots_are_ambiguous(tmp_path: Path) -> None:
    cached(tmp_path, "org/m", "a", main=None)
    cached(tmp_path, "org/m", "b", main=None)
    assert hub.snapshot("org/m", tmp_path) is None


def test_a_main_that_was_not_downloaded_is_nothing(tmp_path: Path) -> None:
    cached(tmp_path, "org/m", "a", main="b")
    assert hub.snapshot("org/m", tmp_path) is None


def test_a_model_that_is_not_in_the_cache_is_nothing(tmp_path: Path) -> None:
    assert hub.snapshot("org/m", tmp_path) is None
    assert hub.snapshot("org/m", None) is None


def test_a_local_directory_is_its_own_snapshot(tmp_path: Path) -> None:
    assert hub.snapshot(str(tmp_path), None) == tmp_path


@pytest.mark.parametrize("model", ["", "~nobody-like-this/m", "a\0b", "x" * 5000])
def test_a_name_that_is_no_path_is_nothing(tmp_path: Path, model: str) -> None:
    assert hub.snapshot(model, tmp_path) is None


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", json.dumps({"chat_template": "{{ x }}"})),
        (
            "tokenizer_config.json",
            json.dumps({"chat_template": [{"name": "default", "template": "{{ x }}"}]}),
        ),
        ("chat_template.json", json.dumps({"chat_template": "{{ x }}"})),
        ("processor_config.json", json.dumps({"chat_template": "{{ x }}"})),
        ("chat_template.jinja", "{{ x }}"),
        ("additional_chat_templates/tool_use.jinja", "{{ x }}"),
    ],
)
def test_a_chat_template_is_found_wherever_it_may_live(
    tmp_path: Path, file: str, content: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert hub.chat_template(tmp_path) == file


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"chat_template": null}',
        b'{"chat_template": ""}',
        b'{"chat_template": []}',
        b'{"chat_templ',
        b"[1]",
        b"\xff\xfe",
        b"[" * 200_000,
    ],
)
def test_an_empty_or_broken_file_holds_no_template(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer_config.json").write_bytes(content)
    assert hub.chat_template(tmp_path) is None


def test_a_link_whose_blob_is_gone_holds_no_template(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").symlink_to(tmp_path / "blobs" / "gone")
    assert hub.chat_template(tmp_path) is None
    assert not hub.has_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("config.json", '{"architectures": ["DeepseekV32ForCausalLM"]}', "renders chat for"),
        ("config.json", '{"model_type": "deepseek_ocr"}', "ships a chat template"),
        ("tekken.json", "{}", "mistral-common"),
        ("tokenizer.model.v3", "", "mistral-common"),
    ],
)
def test_vllm_renders_chat_for_some_models_without_a_template(
    tmp_path: Path, file: str, content: str, why: str
) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert why in (hub.rendered_by_vllm(tmp_path) or "")


@pytest.mark.parametrize(
    "content", ['{"architectures": ["LlamaForCausalLM"]}', '{"architectures": 3}', "x", "[]"]
)
def test_for_all_other_models_it_needs_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    assert hub.rendered_by_vllm(tmp_path) is None


def test_the_config_of_a_model_is_read(tmp_path: Path) -> None:
    assert hub.model_config(tmp_path) == {}
    (tmp_path / "config.json").write_text('{"hidden_size": 8}', encoding="utf-8")
    assert hub.model_config(tmp_path) == {"hidden_size": 8}
