from __future__ import annotations

import pytest

from pytest_vllm.servers.server import State


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(True), "running"),
        (State(False, 3), "exit code 3"),
        (State(False, 0), "exit code 0"),
        (State(False), "exit code unknown"),
        (State(False, -9), "killed by signal 9"),
        (State(False, 137, oom_killed=True), "killed for lack of memory (OOM), exit code 137"),
        (State(False, 1, oom_killed=False), "exit code 1"),
    ],
)
def test_an_end_in_words(state: State, text: str) -> None:
    assert str(state) == text
