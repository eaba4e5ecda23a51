"""What the end of a process says, where the log is silent: signals, exit codes, a start that goes on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vllm.diagnosis.diagnose import EndState
    from pytest_vllm.diagnosis.reading import Reading

__all__ = ["Ending", "completed", "death_in", "is_violent", "state_in", "without_words"]

_Found = tuple[str, str, str, str, dict[str, Any]]

_INSPECT = re.compile(r"ExitCode=(\d+) OOMKilled=(true|false)")
_EXIT = re.compile(r"exit status: (\d+)|exited with code (\d+)")

_DEATH = re.compile(
    r"EngineDeadError|engine core exited unexpectedly|EngineCore encountered (?:a fatal error|an issue)"
    r"|Worker proc \S+ died unexpectedly|died unexpectedly|AsyncLLM output_handler failed"
    r"|Memory access fault by GPU|HW Exception by GPU|Engine background task failed"
    r"|MQLLMEngine is already dead|AsyncEngineDeadError|Engine loop is not running|Engine loop has died"
)


@dataclass(frozen=True)
class Ending:
    """An end state that a log quotes."""

    exit_code: int | None
    oom_killed: bool | None = None


def completed(state: EndState | None, tail: str) -> EndState | None:
    """What is known of the end, with what the end of the log quotes where that says more.

    The code of a script that ran `docker inspect` is not the container's.
    """
    quoted = state_in(tail)
    if state is None or quoted is None:
        return state or quoted
    if quoted.oom_killed is None:
        return state
    return state if state.oom_killed is not None else quoted


def state_in(tail: str) -> Ending | None:
    """Find what `docker inspect` or `docker run` said of the end, where somebody pasted it."""
    if match := _INSPECT.search(tail):
        return Ending(int(match[1]), match[2] == "true")
    if match := _EXIT.search(tail):
        return Ending(int(match[1] or match[2]))
    return None


def is_violent(state: EndState | None) -> bool:
    """Whether a server that was ready ended otherwise than when somebody stops it."""
    code = state.exit_code if state else None
    return code is not None and code not in (0, 130, 143, -2, -15)


def death_in(serving: Reading) -> str | None:
    """The line that shows that the engine died while it served.

    Also an exception of the engine or a worker, unless requests were answered afterwards:
    bad grammars and the like are logged by an engine that lives on.
    """
    inner = (
        li
        for li in serving.lines
        if li.depth >= 2
        and li.level in ("ERROR", "")
        and li.is_exception
        and li.number > serving.alive_at
    )
    said = (line for line in serving.lines if _DEATH.search(line.text))
    return next((line.text for line in [*said, *inner]), None)


def without_words(reading: Reading, state: EndState | None) -> _Found | None:
    """A cause for an end that the log does not explain."""
    code = state.exit_code if state else None
    signal = code - 128 if code is not None and code > 128 else -code if code and code < 0 else None
    evidence = f"exit code {code}" if code is not None else reading.last
    if state is not None and state.oom_killed:
        return (
            "host_oom_killed",
            "The kernel killed the server: the host memory that it may use was not enough.",
            f"OOMKilled, exit code {code}",
            "Give the container more memory (docker run --memory; at least 4 GB and the size of the weights), free host "
            "memory (free -g, dmesg | grep -i oom), or serve a smaller model.",
            {"exit": code},
        )
    if _segfault(reading) or signal in (6, 7, 11):
        return (
            "worker_crashed",
            "A process crashed in native code.",
            _segfault(reading) or evidence,
            "Update driver and image; --vllm-arg=--enforce-eager and --vllm-env VLLM_ROCM_USE_AITER=0 leave out the usual suspects. "
            "With signal 7 (bus error), enlarge /dev/shm: --vllm-shm-size 16g.",
            {"signal": signal or 11},
        )
    if signal == 4:
        return (
            "cpu_illegal_instruction",
            "The processor lacks an instruction that this build uses.",
            evidence,
            "Use a build for this processor: the CPU image needs AVX2 or AVX512 (lscpu | grep avx).",
            {"exit": code},
        )
    if _worker_vanished(reading):
        return (
            "worker_killed",
            "A worker was killed by a signal: none of them logged an error.",
            _worker_vanished(reading),
            "Look for the out-of-memory killer (dmesg | grep -i oom), raise the container's memory (docker run --memory).",
            {"signal": 9},
        )
    if signal == 9:
        return (
            "container_killed",
            "The server was killed from outside, and not for lack of memory.",
            evidence,
            "Look who did it: docker kill, a time-out of CI, systemd. dmesg shows whether the kernel did.",
            {"exit": code},
        )
    if not reading.last:
        return (
            "container_memory_too_small",
            "The server said nothing at all.",
            evidence,
            "With a memory limit below what Python itself needs, a container only thrashes: docker run --memory 4g or more. "
            "Else wait: the first line may take a minute on a slow disk.",
            {},
        )
    if not reading.roots() and (code is None or signal in (2, 15)):
        return (
            "slow_startup",
            "The server was still starting; nothing went wrong so far.",
            reading.last,
            "Wait longer: --vllm-startup-timeout 30m, --vllm-stall-timeout 10m.",
            {},
        )
    return None


def _segfault(reading: Reading) -> str:
    words = ("Segfault encountered", "Segmentation fault", "Fatal Python error", "core dumped")
    return next((li.text for li in reading.lines if any(word in li.text for word in words)), "")


def _worker_vanished(reading: Reading) -> str:
    """The engine complains about a worker, and nobody about anything else."""
    if reading.roots() or any(line.depth == 3 and line.level == "ERROR" for line in reading.lines):
        return ""
    words = (
        "WorkerProc initialization failed",
        "died unexpectedly",
        "Worker proc",
        "Engine core initialization failed",
    )
    return next((li.text for li in reading.lines if any(word in li.text for word in words)), "")
