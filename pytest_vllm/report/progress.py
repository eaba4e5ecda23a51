"""Progress of servers on the terminal, while pytest captures everything else.

On a terminal one line that is rewritten; elsewhere (CI, a pipe) one line per phase; silent
under -q. Under xdist it is the controller that starts servers, so it shows there too.
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


#: How the last line about a start begins.
LAST = ("ready", "did not start")


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
            self._write(terminal, text, last=line.startswith(LAST))
        if line.startswith(LAST):
            del self._began[model]

    def _write(self, terminal: pytest.TerminalReporter, text: str, *, last: bool) -> None:
        writer = self._config.get_terminal_writer()
        if not self._line_is_open:
            terminal.ensure_newline()
            if writer.width_of_current_line:  # dots of xdist, which belong to no file
                terminal.line("")
        if not terminal.isatty:
            terminal.write_line(text)
            return
        # A line that wraps cannot be rewritten.
        terminal.rewrite(text[: writer.fullwidth - 1], erase=True)
        self._line_is_open = not last
        if last:
            terminal.line("")
