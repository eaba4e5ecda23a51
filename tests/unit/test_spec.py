from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_vllm.spec import ServerSpec

OPT = ServerSpec("facebook/opt-125m", env=(("A", "1"),))


@pytest.mark.parametrize(
    "change",
    [
        {"model": "b"},
        {"launcher": "process"},
        {"image": "x:1"},
        {"platform": "cpu"},
        {"gpus": 2},
        {"gpu_util": 0.5},
        {"max_model_len": 5},
        {"dtype": "float32"},
        {"trust_remote_code": True},
        {"args": ("--a",)},
        {"env": (("A", "2"),)},
        {"env": (("B", "1"),)},
    ],
    ids=str,
)
def test_whatever_makes_it_another_server_changes_the_signature(change: dict[str, Any]) -> None:
    assert replace(OPT, **change).signature() != OPT.signature()


def test_equal_specs_have_one_signature_of_16_hex_digits() -> None:
    assert re.fullmatch("[0-9a-f]{16}", OPT.signature())
    assert replace(OPT).signature() == OPT.signature()


@pytest.mark.parametrize("name", ["HF_TOKEN", "my_secret", "DB_PASSWORD", "VLLM_API_KEY"])
def test_a_secret_does_not_enter_the_signature(name: str) -> None:
    one, two = (replace(OPT, env=((name, value),)) for value in ("a", "b"))
    assert one.signature() == two.signature()


def test_specs_are_keys_of_dictionaries() -> None:
    assert {OPT: 1}[replace(OPT)] == 1


@pytest.mark.parametrize(
    ("model", "known"), [("known-answer/base", True), ("me/known-answer", False)]
)
def test_a_known_answer_model_is_known_by_its_prefix(model: str, known: bool) -> None:
    assert ServerSpec(model).is_known_answer is known


def test_a_hugging_face_id_has_no_path() -> None:
    assert OPT.local_path is None


def test_a_folder_that_exists_is_a_local_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models/mine").mkdir(parents=True)
    assert ServerSpec("models/mine").local_path == tmp_path / "models/mine"


@pytest.mark.parametrize("model", ["/nowhere/mine", "./mine", "../mine", "~/mine"])
def test_what_is_written_like_a_path_is_one_though_nothing_is_there(model: str) -> None:
    path = ServerSpec(model).local_path
    assert path is not None
    assert path.is_absolute()


def test_a_known_answer_model_is_built_and_not_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("known-answer/base").mkdir(parents=True)
    assert ServerSpec("known-answer/base").local_path is None


@pytest.mark.parametrize("model", ["", "served/here"])
def test_the_model_of_a_running_server_is_only_a_name(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("served/here").mkdir(parents=True)
    spec = ServerSpec(model, launcher="external", url="http://127.0.0.1:1")
    assert (spec.local_path, spec.id) == (None, model)


@pytest.mark.parametrize(
    ("model", "name"),
    [("facebook/opt-125m", "facebook/opt-125m"), ("/data/models/mine/", "mine")],
)
def test_the_id_is_the_model_or_the_name_of_its_folder(model: str, name: str) -> None:
    assert ServerSpec(model).id == name
