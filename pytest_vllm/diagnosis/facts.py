"""The figures that stand beside the sentence: exit code, limits of the container, seconds."""

from __future__ import annotations

import re
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


#: What was asked for, beside the failures that depend on it.
_ARGUMENTS = re.compile(
    r"['\"]?(gpu_memory_utilization|tensor_parallel_size|max_num_seqs)['\"]?[:=] ?([\d.]+\d|\d)"
)
_OF_MEMORY = ("oom", "memory", "kv_cache", "engine_died_serving")


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
    if any(word in found.cause for word in _OF_MEMORY):
        asked = dict(_ARGUMENTS.findall(reading.arguments))
        more |= {name: float(v) if "." in v else int(v) for name, v in asked.items()}
    if found.cause == "slow_startup" and (seconds := _seconds(reading)):
        more["seconds"] = seconds
    return replace(found, numbers={**more, **found.numbers}) if more else found


_CLOCK = re.compile(r"\d\d-\d\d \d\d:\d\d:\d\d")


def _seconds(reading: Reading) -> int:
    """How long the log goes on, by its own clock, which has no year."""
    found = [_CLOCK.search(text) for text in (reading.first_info, reading.last_info)]
    if not all(found):
        return 0
    begin, end = (datetime.strptime(f"2024-{m[0]}", "%Y-%m-%d %H:%M:%S") for m in found if m)
    return max(0, int((end - begin).total_seconds()))
