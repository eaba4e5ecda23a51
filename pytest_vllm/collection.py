"""Collected tests × models: parametrization, order and time-outs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_vllm.ahead import spec_of
from pytest_vllm.report.outcome import is_alone, level_of

if TYPE_CHECKING:
    from pytest_vllm.run import Run
    from pytest_vllm.spec import ServerSpec


def _turn(item: pytest.Item) -> int:
    """`alone` tests come after the others, `alone(last=True)` after these."""
    mark = item.get_closest_marker("alone")
    return 0 if mark is None else 2 if mark.kwargs.get("last") else 1


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


def _leave_out_lower_levels(run: Run, items: list[pytest.Item]) -> None:
    """`-m core` finds the module's mark of a test whose own mark says `optional`: leave it out."""
    if str(run.config.getoption("markexpr", "")).strip() != "core":
        return
    lower = [item for item in items if spec_of(item) is not None and level_of(item) != "core"]
    if lower:
        run.config.hook.pytest_deselected(items=lower)
        items[:] = [item for item in items if spec_of(item) is None or level_of(item) == "core"]


def arrange(run: Run, items: list[pytest.Item]) -> None:
    """Put each server's tests together, those without a server first, `alone` ones last.

    pytest below 9.2 groups session parameters by their index, which restarts servers in the
    order A, B, A, B where tests have other parameters too. Tests that must be alone wait for
    all others, so the fewer changes between the two kinds the better. Otherwise the order stays.
    """
    _leave_out_lower_levels(run, items)
    order = {spec: number for number, spec in enumerate(run.specs)}

    def place(item: pytest.Item) -> tuple[int, int]:
        spec = spec_of(item)
        return (-1, 0) if spec is None else (order.get(spec, 10**6), _turn(item))

    found = {spec for item in items if (spec := spec_of(item)) is not None}
    if found:
        _ = run.register  # a wrong one is refused before anything slow starts
    if len(found) > 1 or any(is_alone(item) for item in items if spec_of(item)):
        items.sort(key=place)
    if run.config.pluginmanager.hasplugin("timeout"):
        for item in items:
            if spec_of(item) is not None and item.get_closest_marker("timeout") is None:
                # Otherwise the first test pays for the start of the server, and is killed.
                item.add_marker(pytest.mark.timeout(func_only=True))
    if found:
        run.note_limits(item for item in items if spec_of(item) is not None)
