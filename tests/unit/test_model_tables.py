from __future__ import annotations

from pathlib import Path

import pytest

from pytest_vllm.errors import SettingsError
from pytest_vllm.model_tables import read_model_tables


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pyproject.toml"
    path.write_text(text, encoding="utf-8")
    return path


def model(tmp_path: Path, *lines: str) -> Path:
    return write(tmp_path, "\n".join(("[[tool.pytest-vllm.models]]", *lines)))


def test_an_entry_holds_parsed_options_arguments_and_variables(tmp_path: Path) -> None:
    path = model(
        tmp_path,
        'id = "deepseek-ai/DeepSeek-V3.1"',
        "gpus = 8",
        "gpu-util = 0.85",
        "trust-remote-code = true",
        'args = ["--enable-expert-parallel"]',
        'env = { VLLM_ROCM_USE_AITER = "1", N = 2 }',
    )
    assert read_model_tables(path) == {
        "deepseek-ai/DeepSeek-V3.1": {
            "gpus": 8,
            "gpu-util": 0.85,
            "trust-remote-code": True,
            "arg": ("--enable-expert-parallel",),
            "env": (("VLLM_ROCM_USE_AITER", "1"), ("N", "2")),
        }
    }


def test_every_entry_is_a_model(tmp_path: Path) -> None:
    header = "[[tool.pytest-vllm.models]]"
    path = write(tmp_path, f'{header}\nid = "a"\n{header}\nid = "b"\n')
    assert list(read_model_tables(path)) == ["a", "b"]


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[tool.pytest-vllm]\n"])
def test_a_file_without_models_says_nothing(tmp_path: Path, text: str) -> None:
    assert read_model_tables(write(tmp_path, text)) == {}


def test_no_file_says_nothing(tmp_path: Path) -> None:
    assert read_model_tables(tmp_path / "pyproject.toml") == {}


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("gpu_util = 0.5", "did you mean gpu-util?"),
        ("gpu = 2", "did you mean gpus?"),
        ("arg = []", "did you mean args?"),
        ("zzz = 1", "known are id, args, env, image"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(
    tmp_path: Path, line: str, advice: str
) -> None:
    with pytest.raises(SettingsError, match="model a: unknown key") as caught:
        read_model_tables(model(tmp_path, 'id = "a"', line))
    assert advice in str(caught.value)


def test_an_unknown_key_of_the_section_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="unknown key 'model'; did you mean models"):
        read_model_tables(write(tmp_path, "[tool.pytest-vllm]\nmodel = []\n"))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("gpus = 0", "model a, gpus: '0' is not a whole number of at least 1"),
        ("gpus = true", "model a, gpus: 'True' is not a whole number"),
        ("gpu-util = 85", "model a, gpu-util: '85' is not a number above 0 and at most 1"),
        ("args = ['--port=1']", "model a, args: '--port=1' is not yours to set"),
        ("args = '--enforce-eager'", "model a: args is not an array"),
        ("env = ['A=1']", "model a: env is not a table"),
        ("env = { 'A-B' = '1' }", "model a, env: 'A-B=1' is not NAME or NAME=VALUE"),
        ("env = { A = true }", "model a: env A is not text; write A = '1'"),
        ("env = { A = ['1'] }", "model a: env A is not text; write A = '1'"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_model_and_key(
    tmp_path: Path, line: str, reason: str
) -> None:
    path = model(tmp_path, 'id = "a"', line)
    with pytest.raises(SettingsError) as caught:
        read_model_tables(path)
    assert str(caught.value).startswith(f"{path}, {reason}")


@pytest.mark.parametrize("line", ["gpus = 1", "id = ''", "id = 3"])
def test_an_entry_without_id_is_an_error(tmp_path: Path, line: str) -> None:
    with pytest.raises(SettingsError, match="has no id"):
        read_model_tables(model(tmp_path, line))


def test_two_entries_of_one_model_are_an_error(tmp_path: Path) -> None:
    header = "[[tool.pytest-vllm.models]]"
    with pytest.raises(SettingsError, match="model a: it has two entries"):
        read_model_tables(write(tmp_path, f'{header}\nid = "a"\n{header}\nid = "a"\n'))


@pytest.mark.parametrize("models", ["{}", "['facebook/opt-125m']", "'a'"])
def test_models_that_are_no_array_of_tables_are_an_error(tmp_path: Path, models: str) -> None:
    with pytest.raises(SettingsError, match=r"write \[\[tool\.pytest-vllm\.models\]\]"):
        read_model_tables(write(tmp_path, f"[tool.pytest-vllm]\nmodels = {models}\n"))


def test_a_file_that_is_no_toml_is_an_error_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pyproject\.toml is not valid TOML: .*line 1"):
        read_model_tables(write(tmp_path, "a = \n"))
