from __future__ import annotations

from typing import Any

import pytest

from pytest_vllm.errors import SettingsError
from pytest_vllm.settings import OPTIONS, Option, Settings

ONE_VALUE = [o for o in OPTIONS if not o.many and not o.is_flag]

#: A value that each option takes.
GOOD = {
    "url": "http://127.0.0.1:1",
    "launcher": "docker",
    "platform": "cpu",
    "pull": "never",
    "gpus": "2",
    "gpu-util": "0.5",
    "max-model-len": "128",
    "kind": "chat",
    "startup-timeout": "90",
    "stall-timeout": "90",
    "lang": "zh",
    "concurrency": "2",
    "env": "A=1",
    "preflight": "off",
}


def settings(
    cli: dict[str, Any] | None = None,
    environ: dict[str, str] | None = None,
    ini: dict[str, Any] | None = None,
) -> Settings:
    return Settings(cli or {}, environ or {}, ini)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_an_option_has_one_name_in_three_spellings(option: Option) -> None:
    word = option.name.replace("-", "_")
    assert (option.cli, option.ini, option.env) == (
        f"--vllm-{option.name}",
        f"vllm_{word}",
        f"VLLM_TEST_{word.upper()}",
    )


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_help_starts_with_a_capital_and_ends_without_a_full_stop(option: Option) -> None:
    assert option.help[0].isupper()
    assert not option.help.endswith(".")


@pytest.mark.parametrize("option", ONE_VALUE, ids=lambda o: o.name)
def test_every_option_that_takes_a_value_names_it(option: Option) -> None:
    assert option.metavar


@pytest.mark.parametrize(
    "option", [o for o in ONE_VALUE if "|" in str(o.metavar)], ids=lambda o: o.name
)
def test_what_help_names_as_choices_are_the_choices(option: Option) -> None:
    words = str(option.metavar).split("|")
    assert [option.parse(word) for word in words] == words
    assert option.default in words


def test_a_models_own_table_may_say_what_depends_on_the_model() -> None:
    assert {o.name for o in OPTIONS if o.per_model} == {
        "image",
        "platform",
        "gpus",
        "gpu-util",
        "max-model-len",
        "dtype",
        "trust-remote-code",
        "kind",
    }


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
@pytest.mark.parametrize("source", ["cli", "env", "ini"])
def test_every_option_can_be_given_in_three_ways(option: Option, source: str) -> None:
    text = GOOD.get(option.name, "yes" if option.is_flag else "word")
    value: Any = [text] if option.many and source != "env" else text
    name = option.env if source == "env" else option.ini
    given: dict[str, dict[str, Any]] = {"cli": {}, "env": {}, "ini": {}, source: {name: value}}
    assert Settings(given["cli"], given["env"], given["ini"]).source(option.name) == source


def test_the_command_line_beats_the_environment() -> None:
    assert settings({"vllm_gpus": "1"}, {"VLLM_TEST_GPUS": "2"})["gpus"] == 1


def test_the_environment_beats_the_ini_file() -> None:
    assert settings({}, {"VLLM_TEST_GPUS": "2"}, {"vllm_gpus": "3"})["gpus"] == 2


def test_the_ini_file_beats_the_default() -> None:
    assert settings(ini={"vllm_pull": "never"})["pull"] == "never"


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("model", ()),
        ("arg", ()),
        ("url", None),
        ("launcher", "auto"),
        ("platform", "auto"),
        ("pull", "missing"),
        ("startup-timeout", 1800.0),
        ("stall-timeout", 600.0),
        ("kind", "auto"),
    ],
)
def test_what_nobody_gave_has_its_default(name: str, default: object) -> None:
    assert (settings()[name], settings().source(name)) == (default, "default")


@pytest.mark.parametrize("empty", [{"VLLM_TEST_MODEL": ""}, {}])
def test_an_empty_variable_is_not_given(empty: dict[str, str]) -> None:
    assert settings(environ=empty, ini={"vllm_model": ["a"]})["model"] == ("a",)


def test_a_flag_of_the_command_line_needs_no_word() -> None:
    assert settings({"vllm_strict": True})["strict"] is True


def test_a_variable_can_switch_off_what_the_ini_file_switched_on() -> None:
    given = settings({}, {"VLLM_TEST_STRICT": "0"}, {"vllm_strict": "yes"})
    assert given["strict"] is False


def test_a_variable_with_several_values_is_split_as_a_shell_does() -> None:
    given = settings(environ={"VLLM_TEST_ARG": """--a=1 '--chat-template=my file'"""})
    assert given["arg"] == ("--a=1", "--chat-template=my file")


def test_a_variable_with_an_open_quote_is_an_error_that_names_it() -> None:
    with pytest.raises(SettingsError, match="VLLM_TEST_ARG cannot be split into words"):
        settings(environ={"VLLM_TEST_ARG": "--a='1"})


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"cli": {"vllm_gpus": "two"}}, "--vllm-gpus"),
        ({"environ": {"VLLM_TEST_GPUS": "two"}}, "the variable VLLM_TEST_GPUS"),
        ({"ini": {"vllm_gpus": "two"}}, "the ini key vllm_gpus"),
    ],
)
def test_a_wrong_value_is_shown_with_its_source_and_the_reason(
    given: dict[str, Any], where: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(**given)
    assert str(caught.value) == f"{where}: 'two' is not a whole number of at least 1"


@pytest.mark.parametrize("text", ["--api-key=sk-123", "--api_key sk-123", "--API-KEY=sk-123"])
def test_an_error_does_not_show_a_key(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings({"vllm_arg": [text.lower()]})
    assert "sk-123" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        (settings({"vllm_model": ["a"]}), True),
        (settings(environ={"VLLM_TEST_URL": "http://127.0.0.1:1"}), True),
        (settings(ini={"vllm_model": ["a"]}), False),
        (settings({"vllm_strict": True}), False),
    ],
    ids=["command line", "environment", "ini", "another option"],
)
def test_only_a_model_or_url_of_this_run_chooses_the_suite(given: Settings, chosen: bool) -> None:
    assert given.chosen is chosen
