"""Ports and variables of the host that would end a start."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_vllm.preflight.finding import Finding

if TYPE_CHECKING:
    from pytest_vllm.preflight.plan import Plan

_PORTS = ("--master-port", "--data-parallel-rpc-port", "--data-parallel-master-port")


def port_variable_is_a_port(plan: Plan) -> Iterator[Finding]:
    """Kubernetes sets VLLM_PORT=tcp://… for a service called vllm, and vLLM refuses that."""
    value = plan.environ.get("VLLM_PORT", "")
    if re.match(r"\w+://", value):
        yield Finding(
            "refuse",
            "vllm_port_env_from_kubernetes",
            f"VLLM_PORT is {value}, an address and no port: vLLM refuses it.",
            "Unset it (env -u VLLM_PORT pytest …), or give the Kubernetes service "
            "another name than "
            "vllm.",
        )


def ports_are_free(plan: Plan) -> Iterator[Finding]:
    """Ports that the user gave for vLLM's own use; the server's own port is chosen by us."""
    if plan.spec.launcher != "process":
        return
    for flag in _PORTS:
        port = plan.count(0, flag)
        if port and not is_free(port):
            yield Finding(
                "refuse",
                "port_in_use",
                f"{flag} {port} is in use on this machine (ss -ltnp 'sport = :{port}').",
                f"Choose another: --vllm-arg={flag}={port + 1} (vllm serve {flag} {port + 1}).",
                {"port": port},
            )


def is_free(port: int) -> bool:
    """Whether a server could listen on a port of the loopback interface."""
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
