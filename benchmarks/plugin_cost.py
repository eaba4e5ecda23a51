"""What pytest-vllm adds to a pytest run that has nothing to do with it.

    python benchmarks/plugin_cost.py [PAIRS]

Runs one trivial test with and without the plugin, in turns, and compares the medians of the
processes' own CPU time: wall time on a shared machine says nothing. Entry points of other
plugins are switched off in both, so that the plain run is as cheap as pytest gets and the
ratio as strict as it can be. Reported: both medians in ms, their ratio, the difference.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PLAIN = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
WITH = [*PLAIN, "-p", "pytest_vllm.plugin"]


def cpu_ms(command: list[str], folder: Path) -> float:
    """CPU time of one process, user and system, in ms."""
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)


def main(pairs: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_it.py").write_text("def test_it():\n    assert True\n")
        for command in (PLAIN, WITH):
            cpu_ms(command, folder)  # warm: .pyc files and the disk cache
        runs = [(cpu_ms(PLAIN, folder), cpu_ms(WITH, folder)) for _ in range(pairs)]
    plain, loaded = (statistics.median(column) for column in zip(*runs, strict=True))
    added = statistics.median(b - a for a, b in runs)
    print(f"plain {plain:.0f} ms, with pytest-vllm {loaded:.0f} ms of CPU (medians of {pairs})")
    print(f"ratio {loaded / plain:.3f}, median of the paired differences {added:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
