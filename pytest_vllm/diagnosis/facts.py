"""The figures that stand beside the sentence: exit code, limits of the container, seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vllm.diagnosis.diagnose import Diagnosis, EndState
    from pytest_vllm.diagnosis.reading import Reading

#: Cause -> the facts of the host that explain it.
_OF_HOST = {
    "host_oom_killed": ("memory_mb",),
    "container_memory_too_small": ("memory_mb",),
    "pids_limit": ("pids_limit",),
    "nofile_limit": ("nofile",),
    "model_path_permission": ("uid",),
    "cache_not_writable": ("uid",),
    "hf_cache_not_writable": ("uid",),
    "invalid_argument_value": ("port",),
    "port_in_use": ("port",),
}


def added(
    found: Diagnosis, reading: Reading, state: EndState | None, host: Mapping[str, Any] | None
) -> Diagnosis:
    """The diagnosis with these figures; what a rule read itself stays."""
    more: dict[str, Any] = {}
    if state is not None and state.exit_code is not None and found.cause != "none":
        more["exit"] = state.exit_code
    for name in _OF_HOST.get(found.cause, ()):
        if host and host.get(name) is not None:
            more[name] = host[name]
    if found.cause == "slow_startup" and (seconds := _seconds(reading)):
        more["seconds"] = seconds
    return replace(found, numbers={**more, **found.numbers}) if more else found


def _seconds(reading: Reading) -> int:
    """How long the log goes on, by its own clock, which has no year."""
    try:
        begin, end = (
            datetime.strptime(f"2024-{time}", "%Y-%m-%d %H:%M:%S")
            for time in (reading.first_time, reading.last_time)
        )
    except ValueError:
        return 0
    return max(0, int((end - begin).total_seconds()))
