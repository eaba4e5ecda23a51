"""Servers -> facts for reports, as builtin types: the JSON results and JUnit say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_vllm.servers.server import Server


def server_facts(
    server: Server, error: str | None = None, diagnosis: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that a report says of a server that was ready, and of its death if it died."""
    spec = server.spec
    external = spec.launcher == "external"
    return {
        "model": spec.model,
        "served_model": server.model,
        "launcher": spec.launcher,
        "url": spec.url,
        "image": server.facts.get("image"),
        "image_id": server.facts.get("image_id"),
        "image_digest": server.facts.get("image_digest") or None,
        "version": server.version or None,
        "platform": None if external else spec.platform,
        "gpus": spec.gpus,
        "args": list(spec.args),
        "startup_s": server.startup_s,
        "phases": [list(phase) for phase in server.phases],
        "capabilities": server.capabilities.as_dict(),
        "log": str(server.log_path) if server.log_path else None,
        "notes": list(server.notes),
        "error": error,
        "diagnosis": diagnosis,
    }


def failed_facts(
    model: str, report: str, diagnosis: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The same for a server that did not start."""
    return {"model": model, "error": report, "diagnosis": diagnosis}
