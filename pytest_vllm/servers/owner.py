"""Who started a server: host, pid and the pid's start time, so that a reused pid is no alibi."""

from __future__ import annotations

import os
import platform


def owner_label() -> str:
    """`HOST:PID:START`, START in whole seconds since the epoch."""
    import psutil

    started = psutil.Process().create_time()
    return f"{platform.node()}:{os.getpid()}:{started:.0f}"
