from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_vllm.settings import DEFAULT_MODEL, Settings
from pytest_vllm.specs import specs_from

if TYPE_CHECKING:
    from pytest_vllm.spec import ServerSpec

URL = "http://127.0.0.1:8000"


def only(
    cli: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    ini: dict[str, Any] | None = None,
    table: dict[str, Any] | None = None,
) -> ServerSpec:
    settings = Settings({"vllm_model": ["a"]} | (cli or {}), environ or {}, ini)
    (spec,) = specs_from(settings, {"a": table or {}})
    return spec


def models(cli: dict[str, Any]) -> list[str]:
    return [spec.model for spec in specs_from(Settings(cli, {}), {})]


def test_without_a_model_the_default_is_served() -> None:
    assert models({}) == [DEFAULT_MODEL]


def test_models_keep_the_order_of_the_user_and_come_once() -> None:
    assert models({"vllm_model": ["b", "a", "b"]}) == ["b", "a"]


def test_a_url_without_a_model_takes_whatever_is_served_there() -> None:
    (spec,) = specs_from(Settings({"vllm_url": URL}, {}), {})
    assert (spec.model, spec.launcher, spec.url) == ("", "external", URL)


def test_a_url_beats_the_launcher() -> None:
    assert only({"vllm_url": URL, "vllm_launcher": "docker"}).launcher == "external"


def test_what_the_machine_decides_stays_open() -> None:
    spec = only()
    assert (spec.launcher, spec.platform, spec.image) == ("auto", "auto", None)


def test_an_option_reaches_the_spec() -> None:
    spec = only({"vllm_gpu_util": "0.5", "vllm_trust_remote_code": True, "vllm_env": ["A"]})
    assert (spec.gpu_util, spec.trust_remote_code, spec.env) == (0.5, True, (("A", None),))


def test_the_models_own_table_beats_the_ini_file() -> None:
    assert only(ini={"vllm_gpus": "1"}, table={"gpus": 8}).gpus == 8


def test_the_table_of_another_model_does_not_count() -> None:
    (spec,) = specs_from(Settings({"vllm_model": ["a"]}, {}), {"b": {"gpus": 8}})
    assert spec.gpus is None


@pytest.mark.parametrize(
    "given", [{"cli": {"vllm_gpus": "2"}}, {"environ": {"VLLM_TEST_GPUS": "2"}}], ids=str
)
def test_command_line_and_environment_beat_the_models_own_table(given: dict[str, Any]) -> None:
    assert only(**given, table={"gpus": 8}).gpus == 2


def test_a_table_can_take_back_what_the_ini_file_allows() -> None:
    table = {"trust-remote-code": False}
    assert only(ini={"vllm_trust_remote_code": "yes"}, table=table).trust_remote_code is False


def test_arguments_of_the_command_line_follow_those_of_the_table() -> None:
    spec = only({"vllm_arg": ["--b"]}, table={"arg": ("--a",)})
    assert spec.args == ("--a", "--b")


def test_a_variable_of_the_command_line_replaces_that_of_the_table() -> None:
    spec = only({"vllm_env": ["A=2"]}, table={"env": (("A", "1"), ("B", "1"))})
    assert spec.env == (("A", "2"), ("B", "1"))
