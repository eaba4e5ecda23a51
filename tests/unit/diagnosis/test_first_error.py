from __future__ import annotations

import pytest

from pytest_vllm.diagnosis.first_error import first_error

GENERIC = "RuntimeError: Engine core initialization failed. See root cause above. Failed: {}"
HEADS = "Total number of attention heads (3) must be divisible by tensor parallel size (2)."


def engine(text: str, process: str = "EngineCore pid=9") -> str:
    return f"({process}) ERROR 11-23 04:00:00 [core.py:1234] {text}"


@pytest.mark.parametrize(
    "process",
    [
        "EngineCore pid=9",
        "EngineCore_DP0 pid=9",
        "Worker_TP1 pid=9",
        "VllmWorker rank=0 pid=9",
        "APIServer pid=1",
    ],
)
def test_the_error_of_any_process_is_found_without_its_prefix(process: str) -> None:
    log = [engine("ValueError: no kernel for gfx1150", process)]
    assert first_error(log) == "ValueError: no kernel for gfx1150"


def test_the_first_error_of_a_process_beats_what_follows_from_it() -> None:
    log = [
        engine("torch.OutOfMemoryError: HIP out of memory.", "Worker_TP0 pid=9"),
        engine("RuntimeError: worker died"),
        GENERIC,
    ]
    assert first_error(log) == "torch.OutOfMemoryError: HIP out of memory."


@pytest.mark.parametrize("generic", [GENERIC, "Exception: WorkerProc initialization failed due to"])
def test_an_error_that_only_points_to_another_is_no_answer(generic: str) -> None:
    log = [engine(generic), engine("ValueError: the cause"), generic]
    assert first_error(log) == "ValueError: the cause"


def test_lines_of_a_traceback_are_no_errors() -> None:
    log = [
        engine("Traceback (most recent call last):"),
        engine('  File "core.py", line 1, in run'),
        engine("    raise ValueError(x)"),
        engine("ValueError: x is 1"),
    ]
    assert first_error(log) == "ValueError: x is 1"


def test_a_configuration_error_is_found_in_its_pydantic_block() -> None:
    log = [
        "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
        f"  Value error, {HEADS} [type=value_error, input_value=ArgsKwargs(()), input_type=…]",
    ]
    assert first_error(log) == HEADS


def test_of_plain_errors_the_last_is_the_one_that_ended_it() -> None:
    log = [
        "OSError: We couldn't connect to 'https://huggingface.co'",
        "(APIServer pid=1) huggingface_hub.errors.LocalEntryNotFoundError: not in the cache",
        GENERIC,
    ]
    expected = "huggingface_hub.errors.LocalEntryNotFoundError: not in the cache"
    assert first_error(log) == expected


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            "vllm: error: unrecognized arguments: python -m x",
            "error: unrecognized arguments: python -m x",
        ),
        (
            "api_server.py: error: argument --dtype: invalid choice: 'x'",
            "error: argument --dtype: invalid choice: 'x'",
        ),
        (
            "(APIServer pid=1) error: neither vllm nor python3 is here",
            "error: neither vllm nor python3 is here",
        ),
    ],
)
def test_a_wrong_command_line_is_an_error_too(line: str, error: str) -> None:
    assert first_error(["usage: vllm serve [model_tag]", line]) == error


def test_colours_do_not_hide_an_error() -> None:
    log = ["\x1b[0;36m(EngineCore pid=9)\x1b[0;0m ERROR 11-23 [core.py:1] ValueError: x"]
    assert first_error(log) == "ValueError: x"


@pytest.mark.parametrize(
    "log",
    [[], ["INFO all is well"], ["WARNING [x.py:1] ValueError was caught"], [GENERIC]],
    ids=["empty", "healthy", "mentioned", "generic"],
)
def test_a_log_without_an_error_has_none(log: list[str]) -> None:
    assert first_error(log) is None
