"""`pytest` here runs the project's own tests, unless what is asked for is the suite.

A model, a URL or a `-m` expression that names our levels, and no path given, mean the suite.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

_LEVELS = re.compile(r"\b(core|optional|chat_model)\b")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the ini keys of pytest-asyncio also where it is not installed, as for users."""
    if importlib.util.find_spec("pytest_asyncio") is None:
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "Of pytest-asyncio, which is not installed", default=None)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Point pytest at the suite where it is wanted."""
    if not config.pluginmanager.hasplugin("vllm"):
        raise pytest.UsageError(
            "The plugin of this repository is not installed for this Python: "
            "`pip install -e .`, or let `python3 bootstrap.py test` do it."
        )
    from pytest_vllm.run import Run

    no_path = config.args_source is not pytest.Config.ArgsSource.ARGS
    wanted = _LEVELS.search(config.option.markexpr) or Run.of(config).settings.chosen
    if no_path and wanted:
        config.args[:] = [str(Path(__file__).parent / "pytest_vllm" / "suite")]
        # Warnings are errors for the project's own tests, not for the verdict on a server.
        config.addinivalue_line("filterwarnings", "default")
