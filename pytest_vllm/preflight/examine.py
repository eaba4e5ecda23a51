"""All checks of the preflight, in the order in which people should read them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from pytest_vllm.preflight import download, gpus, host, memory
from pytest_vllm.preflight.finding import Finding
from pytest_vllm.preflight.plan import Machine, Plan

if TYPE_CHECKING:
    from pytest_vllm.spec import ServerSpec

_log = logging.getLogger(__name__)

#: A plan in, findings out.
Check = Callable[[Plan], Iterable[Finding]]

CHECKS: tuple[Check, ...] = (
    memory.weights_fit,
    gpus.there_are_enough,
    gpus.they_divide_the_heads,
    memory.one_request_fits,
    memory.enough_is_free,
    memory.enough_ram,
    gpus.they_may_be_used,
    gpus.they_are_named_once,
    download.image_is_there,
    download.model_can_come,
    download.token_is_there,
    download.disk_is_large_enough,
    host.port_variable_is_a_port,
    host.ports_are_free,
)


def examine(spec: ServerSpec, machine: Machine, checks: Sequence[Check] = CHECKS) -> list[Finding]:
    """Look at a spec, whose platform and image are decided, before it is started."""
    if spec.launcher == "external":
        return []
    plan = Plan(spec, machine)
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(plan)
        except Exception:  # a help that fails must not stop what would have worked
            _log.debug("preflight: %s failed", check.__name__, exc_info=True)
    return findings
