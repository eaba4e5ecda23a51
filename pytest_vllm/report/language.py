"""The summary's sentences in English and Simplified Chinese.

The English sentence is the key, so the code reads as it prints, and a sentence without a
translation falls back to English; a test finds those.
"""

from __future__ import annotations

import locale
import os
import unicodedata
from collections.abc import Callable

Say = Callable[..., str]

CHINESE = {
    "server": "服务器",
    "core": "核心",
    "optional": "可选",
    "own tests": "自有测试",
    "{passed}/{total} passed": "通过 {passed}/{total}",
    "not started": "未启动",
    "version unknown": "版本未知",
    "ready in {s} s": "{s} 秒就绪",
    "base model: no chat template ({who})": "基础模型：没有聊天模板（{who}）",
    "decided by user": "由用户指定",
    "decided by server": "已询问服务器",
    "decided by files": "依据模型文件",
    "decided by name": "依据模型名称",
    "decided by nobody": "未能确定",
    "It does not work: the server is not there.": "不可用：服务器没有运行。",
    "Core does not work: {names}.": "核心功能不可用：{names}。",
    "Not every check ran: no verdict.": "检查没有全部运行：没有结论。",
    "GONE, remove it from the register: {known}": "已修复，请从登记表中删除：{known}",
    "Core works.": "核心功能正常。",
    "Optional checks that failed: {n}.": "未通过的可选检查：{n} 项。",
    "Chat needs a chat model, for example {a} or {b}.": "聊天需要聊天模型，例如 {a} 或 {b}。",
}

#: Where English itself says it shorter than the key.
ENGLISH = {
    "decided by user": "the user says so",
    "decided by server": "asked the server",
    "decided by files": "by the model's files",
    "decided by name": "by the model's name",
    "decided by nobody": "nobody knows",
}


def for_setting(setting: str) -> Say:
    """A function that says a sentence in the language of `--vllm-lang`."""
    language = _from_locale() if setting == "auto" else setting
    catalogue = CHINESE if language == "zh" else ENGLISH

    def say(sentence: str, **values: object) -> str:
        return catalogue.get(sentence, sentence).format(**values)

    return say


def pad(text: str, width: int) -> str:
    """Fill with blanks to a width in terminal cells, where a Chinese character takes two."""
    cells = sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
    return text + " " * max(1, width - cells)


def _from_locale() -> str:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "zh" if value.lower().startswith("zh") else "en"
    return "zh" if (locale.getlocale()[0] or "").lower().startswith(("zh", "chinese")) else "en"
