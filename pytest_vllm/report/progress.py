"""Progress of servers on the terminal, while pytest captures everything else.

On a terminal one line that is rewritten; elsewhere (CI, a pipe) one line per phase; silent
under -q. Under xdist it is the controller that starts servers, so it shows there too.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pytest_vllm.servers.launcher import ADJUSTED, WARNING

if TYPE_CHECKING:
    import pytest


#: How the last line about a start begins.
LAST = ("ready", "did not start")

#: How lines begin that stay on the terminal.
KEPT = (WARNING, ADJUSTED)


class Progress:
    """Callable with (model, line)."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}
        self._line_is_open = False

    def __call__(self, model: str, line: str) -> None:
        """Show one step of a model's server."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is None or self._config.get_verbosity() < 0:
            return
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        began = self._began.setdefault(model, time.monotonic())
        elapsed = time.monotonic() - began
        text = f"vLLM {model}: {line} ({elapsed:.0f} s)"
        suspended = capture.global_and_fixture_disabled() if capture else nullcontext()
        with self._lock, suspended:
            if line.startswith(KEPT):
                self._keep(terminal, f"vLLM {model}: {line}")
            else:
                self._write(terminal, text, last=line.startswith(LAST))
        if line.startswith(LAST):
            del self._began[model]

    def _begin(self, terminal: pytest.TerminalReporter) -> None:
        """Leave what others wrote into this line alone."""
        terminal.ensure_newline()
        if self._config.get_terminal_writer().width_of_current_line:  # dots of xdist
            terminal.line("")

    def _keep(self, terminal: pytest.TerminalReporter, text: str) -> None:
        """Write a line that is not rewritten, below the one that is."""
        if self._line_is_open:
            terminal.line("")
            self._line_is_open = False
        else:
            self._begin(terminal)
        terminal.write_line(text, yellow=True)

    def _write(self, terminal: pytest.TerminalReporter, text: str, *, last: bool) -> None:
        writer = self._config.get_terminal_writer()
        if not self._line_is_open:
            self._begin(terminal)
        if not terminal.isatty:
            terminal.write_line(text)
            return
        # A line that wraps cannot be rewritten.
        terminal.rewrite(text[: writer.fullwidth - 1], erase=True)
        self._line_is_open = not last
        if last:
            terminal.line("")
