"""Collected tests × models: parametrization, order and time-outs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.report.outcome import spec_of

if TYPE_CHECKING:
    from pytest_vllm.run import Run
    from pytest_vllm.spec import ServerSpec


def parametrize(metafunc: pytest.Metafunc, run: Run) -> None:
    """Run a test once per spec; the id is there for one model too, so that names are stable."""
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        words = names.replace(",", " ").split() if isinstance(names, str) else names
        if "vllm_spec" in words:
            return  # the test chose its specs itself
    try:
        specs = run.specs
    except pytest.UsageError as error:  # a wrong variable or ini key; without our traceback
        raise pytest.Collector.CollectError(f"pytest-vllm: {error}") from None
    metafunc.parametrize("vllm_spec", specs, ids=_ids(specs), scope="session", indirect=True)


def _ids(specs: Sequence[ServerSpec]) -> list[str]:
    return [spec.id or "url" for spec in specs]


def arrange(run: Run, items: list[pytest.Item]) -> None:
    """Put each server's tests together, those without a server first; mark time-outs.

    pytest below 9.2 groups session parameters by their index, which restarts servers in the
    order A, B, A, B where tests have other parameters too. With one spec nothing is moved.
    """
    order = {spec: number for number, spec in enumerate(run.specs)}
    found = [spec_of(item) for item in items]
    if len({spec for spec in found if spec is not None}) > 1:
        items.sort(key=lambda item: -1 if (s := spec_of(item)) is None else order.get(s, 10**6))
    if run.config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if spec_of(item) is not None and item.get_closest_marker("timeout") is None:
                # Otherwise the first test pays for the start of the server, and is killed.
                item.add_marker(pytest.mark.timeout(func_only=True))
