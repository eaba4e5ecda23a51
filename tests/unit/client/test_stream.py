from __future__ import annotations

import pytest

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.sse import Event
from pytest_vllm.client.stream import chunks
from pytest_vllm.client.strict_json import parse_json


def read(*data: str) -> list[dict[str, object]]:
    return list(chunks(Event(text) for text in data))


def test_chunks_end_with_done() -> None:
    assert read('{"a": 1}', '{"b": 2}', "[DONE]") == [{"a": 1}, {"b": 2}]
    assert read("[DONE]") == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"must end with `data: \[DONE\]`"),
        (["{}"], r"must end with `data: \[DONE\]`"),
        (["[DONE]", "{}"], r"Nothing must follow `data: \[DONE\]`: got \"\{\}\""),
        (["[DONE]", "[DONE]"], r"Nothing must follow"),
        (["{} {}", "[DONE]"], r"must be one JSON object: got \"\{\} \{\}\""),
        (["[done]"], "must be one JSON object"),
        (["", "[DONE]"], "must be one JSON object"),
        (["[]", "[DONE]"], r"must be one JSON object: got \[\]"),
        (["null", "[DONE]"], "must be one JSON object: got null"),
        (['{"logprob": NaN}', "[DONE]"], "must be one JSON object"),
        (['{"error": {"message": "no memory"}}', "[DONE]"], 'with an error: got "no memory"'),
        (['{"error": "gone", "choices": []}'], 'with an error: got "gone"'),
    ],
)
def test_another_end_or_content_is_a_failure(data: list[str], message: str) -> None:
    with pytest.raises(CheckFailed, match=message):
        read(*data)


def test_a_null_error_is_no_error() -> None:
    assert read('{"error": null}', "[DONE]") == [{"error": None}]


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "", "{", "[" * 100_000])
def test_what_other_clients_cannot_parse_is_no_json(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)
