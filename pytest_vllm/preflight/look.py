"""The preflight as a part of a start: tell, refuse, and never be in the way."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pytest_vllm.preflight.examine import examine
from pytest_vllm.preflight.finding import refusal
from pytest_vllm.preflight.plan import Machine
from pytest_vllm.servers.launcher import WARNING

if TYPE_CHECKING:
    from pytest_vllm.servers.launcher import Launcher, LaunchPolicy
    from pytest_vllm.spec import ServerSpec

_log = logging.getLogger(__name__)


def look(launcher: Launcher, spec: ServerSpec, policy: LaunchPolicy) -> tuple[str, ...]:
    """The warnings about a resolved spec.

    Raises:
        PreflightRefused: It cannot work.
    """
    if not policy.preflight:
        return ()
    try:
        has_image = getattr(launcher, "has_image", None)
        findings = examine(spec, Machine(pull=policy.pull, has_image=has_image))
        refused = refusal(spec.model, findings)
    except Exception:  # a help that fails must not stop what would have worked
        _log.debug("preflight failed", exc_info=True)
        return ()
    if refused is not None:
        raise refused
    return tuple(f"{WARNING}{finding}" for finding in findings)
