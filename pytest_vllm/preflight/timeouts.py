"""Limits of pytest's own run that would end the slow start of a server.

pytest-timeout counts a test's fixtures, unless `func_only` is set; the plugin sets it for tests
without a `timeout` mark of their own (collection.py), and leaves the user's marks alone. So the
first test of a server, if it is marked, pays for the start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pytest_vllm.preflight.finding import Finding
from pytest_vllm.servers.launcher import WARNING

if TYPE_CHECKING:
    import pytest

_log = logging.getLogger(__name__)


def warnings(
    config: pytest.Config, items: Iterable[pytest.Item], startup_s: float
) -> tuple[str, ...]:
    """All of it as lines; nothing where it cannot be told."""
    try:
        findings = [*limits(config, startup_s), *marked(items, startup_s)]
    except Exception:  # a mark that pytest-timeout itself will complain about
        _log.debug("preflight: limits cannot be told", exc_info=True)
        return ()
    return tuple(f"{WARNING}{finding}" for finding in findings)


def limits(config: pytest.Config, startup_s: float) -> Iterator[Finding]:
    """What ends the whole run, or the process, too early."""
    session = _session_timeout(config)
    if 0 < session < startup_s:
        yield Finding(
            "warn",
            "startup_timeout_external",
            f"The whole run may take {session:g} s (--session-timeout), and the start of a server "
            f"alone {startup_s:g} s.",
            "Raise --session-timeout, or lower --vllm-startup-timeout.",
            {"session_timeout_s": session, "startup_timeout_s": startup_s},
        )
    dump = float(_ini(config, "faulthandler_timeout") or 0)
    if 0 < dump < startup_s and _ini(config, "faulthandler_exit_on_timeout"):
        yield Finding(
            "warn",
            "startup_timeout_external",
            f"pytest ends itself {dump:g} s into a test (faulthandler_exit_on_timeout), the start "
            f"of the server included, which may take {startup_s:g} s.",
            f"Set faulthandler_timeout = {startup_s + 300:g}, or lower --vllm-startup-timeout.",
            {"faulthandler_timeout_s": dump, "startup_timeout_s": startup_s},
        )


def marked(items: Iterable[pytest.Item], startup_s: float) -> Iterator[Finding]:
    """Tests whose own mark counts the start of their server: one finding for all of them."""
    short = [(limit, item) for item in items if 0 < (limit := _counted_limit(item)) < startup_s]
    if not short:
        return
    limit, item = min(short, key=lambda pair: pair[0])
    more = f" and {len(short) - 1} more" if len(short) > 1 else ""
    yield Finding(
        "warn",
        "startup_timeout_external",
        f"{item.nodeid}{more} may take {limit:g} s with the start of the server, which alone may "
        f"take {startup_s:g} s: pytest-timeout would kill it.",
        f"Mark it timeout({limit:g}, func_only=True), or set timeout_func_only = true in the ini "
        "file.",
        {"timeout_s": limit, "startup_timeout_s": startup_s, "tests": len(short)},
    )


def _counted_limit(item: pytest.Item) -> float:
    """The seconds of a mark that counts fixtures too; 0 for none."""
    mark = item.get_closest_marker("timeout")
    if mark is None:
        return 0
    given: dict[str, Any] = dict(zip(("timeout", "method"), mark.args, strict=False)) | dict(
        mark.kwargs
    )
    only = given.get("func_only")
    if only or (only is None and _ini(item.config, "timeout_func_only")):
        return 0
    return float(given.get("timeout") or 0)


def _session_timeout(config: pytest.Config) -> float:
    given = config.getoption("session_timeout", None) or _ini(config, "session_timeout")
    return float(given or 0)


def _ini(config: pytest.Config, name: str) -> Any:
    try:
        return config.getini(name)
    except (KeyError, ValueError):  # the plugin, or this version of pytest, does not have it
        return None
