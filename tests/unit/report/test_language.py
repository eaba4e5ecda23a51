from __future__ import annotations

import ast
import inspect
import string
import typing

import pytest

from pytest_vllm.models.capabilities import Verdict
from pytest_vllm.report import summary
from pytest_vllm.report.language import CHINESE, ENGLISH, for_setting, pad

#: What the summary puts together instead of writing it out -> all that can come of it.
PUT_TOGETHER = {
    "f'decided by {chat.decided_by}'": {
        f"decided by {who}" for who in typing.get_args(typing.get_type_hints(Verdict)["decided_by"])
    },
    "level": {"core", "optional"},
    "worst.level": {"core", "optional"},
}


def arguments() -> list[ast.expr]:
    """The first argument of every `say(…)` and `self.say(…)` in summary.py."""
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(summary))) if isinstance(n, ast.Call)]
    return [call.args[0] for call in calls if ast.unparse(call.func).split(".")[-1] == "say"]


def said() -> set[str]:
    """Every sentence that the summary can say."""
    sentences = set()
    for argument in arguments():
        if isinstance(argument, ast.Constant):
            sentences.add(str(argument.value))
        else:
            sentences |= PUT_TOGETHER[ast.unparse(argument)]
    return sentences


def test_every_sentence_of_the_summary_has_a_translation() -> None:
    assert said() - CHINESE.keys() == set()


def test_every_translation_is_said() -> None:
    assert CHINESE.keys() - said() == set()


def test_every_shorter_english_wording_is_of_a_known_sentence() -> None:
    assert ENGLISH.keys() <= CHINESE.keys()


def placeholders(sentence: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence)}


@pytest.mark.parametrize("sentence", CHINESE)
def test_a_translation_fills_in_the_same_values(sentence: str) -> None:
    assert placeholders(CHINESE[sentence]) - {None} == placeholders(sentence) - {None}


@pytest.mark.parametrize(
    ("setting", "sentence", "text"),
    [
        ("en", "ready in {s} s", "ready in 61 s"),
        ("en", "decided by server", "asked the server"),
        ("zh", "ready in {s} s", "61 秒就绪"),
        ("zh", "not in the catalogue", "not in the catalogue"),
    ],
)
def test_a_sentence_is_said_in_the_language_of_the_setting(
    setting: str, sentence: str, text: str
) -> None:
    assert for_setting(setting)(sentence, s=61) == text


@pytest.mark.parametrize(
    ("environ", "chinese"),
    [
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "ZH_TW"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, False),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, True),
    ],
    ids=str,
)
def test_auto_follows_the_locale(
    environ: dict[str, str], chinese: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert (for_setting("auto")("core") == "核心") is chinese


@pytest.mark.parametrize(
    ("locale", "chinese"),
    [("zh_CN", True), ("Chinese (Simplified)_China", True), ("en_US", False), (None, False)],
)
def test_without_variables_the_systems_own_locale_counts(
    locale: str | None, chinese: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("locale.getlocale", lambda: (locale, "UTF-8"))
    assert (for_setting("auto")("core") == "核心") is chinese


@pytest.mark.parametrize(
    ("text", "padded"),
    [
        ("core", "core    "),
        ("核心", "核心    "),
        ("核心x", "核心x   "),
        ("eightcha", "eightcha "),
        ("（x）", "（x）   "),
    ],
)
def test_padding_counts_terminal_cells_and_leaves_at_least_one_blank(
    text: str, padded: str
) -> None:
    assert pad(text, 8) == padded
