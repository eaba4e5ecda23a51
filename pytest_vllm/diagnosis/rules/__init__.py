"""The rules, in the order in which they are tried: the specific before the general."""

from __future__ import annotations

from pytest_vllm.diagnosis.rules import arguments, docker, gpu, host, hub, loose, memory, model
from pytest_vllm.diagnosis.rules.rule import Found, Rule

__all__ = ["DOCKER", "LOG", "Found", "Rule"]

#: For the error of the Docker engine, or of its command.
DOCKER: tuple[Rule, ...] = (docker.IPC_MISSING, *docker.RULES)

#: For the log of a server.
LOG: tuple[Rule, ...] = (
    *arguments.RULES[:3],
    *memory.RULES,
    *host.RULES[:1],
    *gpu.RULES,
    *model.RULES,
    *hub.RULES,
    *host.RULES[1:],
    *arguments.RULES[3:],
    *arguments.LATE,
    *loose.LOOSE,
)
