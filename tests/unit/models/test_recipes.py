"""The table of known models, and the command that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_vllm.__main__ import main
from pytest_vllm.errors import SettingsError
from pytest_vllm.models.recipes import all_recipes, read, recipe_for


def _shown(capsys: pytest.CaptureFixture[str], *ids: str) -> list[dict[str, object]]:
    assert main(["models", "--json", *ids]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert isinstance(shown, list)
    return shown


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


@pytest.mark.parametrize(
    ("model", "gpus", "gpu_util"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", None, 0.5),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", 4, 0.5),
        ("deepseek-ai/DeepSeek-V3.1", 8, None),
        ("google/gemma-3-4b-it", None, None),
        ("Qwen/Qwen2-7B-Instruct", None, None),
        ("mistralai/Mistral-7B-Instruct-v0.3", None, None),
        ("meta-llama/Meta-Llama-3-8B-Instruct", None, None),
        ("google/gemma-2-9b-it", None, None),
    ],
)
def test_a_recipe_has_gpus_and_their_share(
    model: str, gpus: int | None, gpu_util: float | None
) -> None:
    recipe = recipe_for(model)
    assert recipe is not None
    assert (recipe.gpus, recipe.gpu_util) == (gpus, gpu_util)


def test_the_weights_of_every_recipe_fit_its_gpus() -> None:
    # An MI300X has 192 GB, which is 191.98 GiB as vLLM counts it.
    assert [r.model for r in all_recipes() if r.size_gib > 191.98 * (r.gpus or 1)] == []


def test_every_recipe_is_there_once() -> None:
    assert len({r.model.lower() for r in all_recipes()}) == len(read_rows())


def read_rows() -> list[str]:
    from pytest_vllm.models.recipes import TABLE

    return [row for row in TABLE.read_text().splitlines() if row.startswith("id = ")]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('id = "a/b"\nparams_b = 1\nkind = "chat"', "source is missing"),
        ('id = "a/b"\nparams_b = 1\nkind = "chat"\nsource = "s"\nx = 1', "unknown key 'x'"),
        (
            'id = "a/b"\nparams_b = 1\nkind = "chat"\nsource = "s"\nprecision = "q"',
            "precision 'q' is not one of",
        ),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, words: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(f"[[model]]\n{row}\n")
    with pytest.raises(SettingsError, match=words) as error:
        read(path)
    assert "recipe 1 (a/b)" in str(error.value)


def test_without_ids_all_recipes_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert [fact["id"] for fact in _shown(capsys)] == [r.model for r in all_recipes()]


@pytest.mark.parametrize(
    ("model", "kind", "decided_by"),
    [
        ("deepseek-ai/DeepSeek-V3.1", "chat", "recipe"),
        ("facebook/opt-125m", "base", "name"),
        ("acme/Something-Instruct", "chat", "name"),
        ("acme/something", "unknown", "nobody"),
    ],
)
def test_any_id_gets_an_answer(
    capsys: pytest.CaptureFixture[str], model: str, kind: str, decided_by: str
) -> None:
    (fact,) = _shown(capsys, model)
    assert (fact["id"], fact["kind"], fact["decided_by"]) == (model, kind, decided_by)


def test_files_on_this_machine_win_over_the_recipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "deepseek-ai" / "DeepSeek-V3.1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T"}')
    (fact,) = _shown(capsys, str(folder))
    assert (fact["kind"], fact["decided_by"]) == ("base", "files")


def test_the_table_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "deepseek-ai/DeepSeek-V3.1"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["model", "kind", "decided"]
    assert row.split()[:5] == ["deepseek-ai/DeepSeek-V3.1", "chat", "recipe", "625", "GiB"]
    assert row.split()[5:] == ["8", "11", "min"]


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["models", "--jsn"])
    assert end.value.code == 2
    assert "--jsn" in capsys.readouterr().err
