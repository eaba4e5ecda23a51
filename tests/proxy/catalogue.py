"""All faults by name."""

from __future__ import annotations

from tests.proxy import answers, logprobs, other_apis, parameters, streams, surface, tools
from tests.proxy.fault import Fault

_ALL = [
    fault
    for theme in (answers, streams, parameters, logprobs, tools, other_apis, surface)
    for fault in theme.FAULTS
]
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
assert len(FAULTS) == len(_ALL), "two faults have the same name"
