"""Start-up phases, read from vLLM's log. Pure: lines in, phases out.

Only the words that have been stable from 0.10 to 0.32 are matched; file names and process
prefixes change with every release.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

#: (pattern, phase); a phase may take the pattern's first group.
_PHASES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), phase)
    for pattern, phase in (
        (r"vLLM API server version (\S+)", "vLLM {} starts"),
        (r"Resolved architecture: (\S+)", "architecture {}"),
        (r"Initializing a V1 LLM engine", "engine starts"),
        (r"Starting to load model", "loading weights"),
        (r"[Ll]oading .*?:\s+(\d+)% Completed", "loading weights {} %"),
        (r"\[aiter\] start build \[(\w+)\]", "building AITER kernel {}"),
        (r"Loading weights took ([\d.]+) seconds", "weights loaded in {} s"),
        (r"Dynamo bytecode transform time|Compiling a graph for", "compiling"),
        (r"torch\.compile (?:takes|took) ([\d.]+) s", "compiled in {} s"),
        (r"(?:GPU|CPU) KV cache size: ([\d,]+) tokens", "KV cache of {} tokens"),
        (r"Capturing CUDA graph.*?(\d+)%", "capturing graphs {} %"),
        (r"Graph capturing finished in (\d+) secs", "graphs captured in {} s"),
        (r"init engine .* took ([\d.]+) s", "engine is up"),
        (r"Starting vLLM (?:API )?server", "HTTP server starts"),
    )
)


def clean(line: str) -> str:
    """A log line without colours, and after its last carriage return (tqdm bars)."""
    return _ANSI.sub("", line).rstrip("\r\n").rsplit("\r", 1)[-1]


def phase_of(line: str) -> str | None:
    """The phase that a log line announces, if it does."""
    for pattern, phase in _PHASES:
        if match := pattern.search(line):
            return phase.format(*match.groups())
    return None


def _step(phase: str) -> str:
    """The phase without the seconds that it took."""
    return re.sub(r" in [\d.]+ s$", "", phase)


@dataclass
class PhaseTracker:
    """Collects the phases of one start as (phase, seconds since the start).

    With tensor parallelism every worker prints the same lines, with seconds of its own: a
    phase counts once.
    """

    seen: list[tuple[str, float]] = field(default_factory=list)

    def feed(self, line: str, elapsed_s: float) -> str | None:
        """Take one log line; return the phase if it is a new one."""
        phase = phase_of(clean(line))
        if phase is None or any(_step(phase) == _step(name) for name, _ in self.seen):
            return None
        self.seen.append((phase, round(elapsed_s, 1)))
        return phase
