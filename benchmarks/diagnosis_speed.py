"""How long does a diagnosis of a large log take? Goal: 50 MB in 2 s.

    python benchmarks/diagnosis_speed.py [MEGABYTES]

Three logs: what a busy server says (nearly all INFO), tracebacks that repeat, and, as the worst
case, error lines that all differ. Each ends in a failure, which must be found.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_vllm.diagnosis import diagnose

_END = (
    "(Worker pid=16) ERROR 11-22 07:58:32 [multiproc_executor.py:953] WorkerProc failed to start.\n"
    "(Worker pid=16) ERROR 11-22 07:58:32 [multiproc_executor.py:953] ValueError: No available "
    "memory for the cache blocks. Try increasing `gpu_memory_utilization`.\n"
)


def served(number: int) -> str:
    """One line of a busy server."""
    return (
        f'(APIServer pid=1) INFO:     127.0.0.1:{number % 60000} - "POST /v1/chat/completions '
        'HTTP/1.1" 200 OK\n'
        "(EngineCore pid=9) INFO 11-22 07:58:20 [loggers.py:1] Engine 000: "
        f"Running: {number} reqs\n"
    )


def repeated(number: int) -> str:
    """A traceback that is the same each time."""
    return (
        "(Worker pid=16) ERROR 11-22 07:58:32 [x.py:1] Traceback (most recent call last):\n"
        '(Worker pid=16) ERROR 11-22 07:58:32 [x.py:1]   File "/x/vllm/x.py", line 7, in f\n'
        "(Worker pid=16) ERROR 11-22 07:58:32 [x.py:1]     return self.g()\n"
    )


def different(number: int) -> str:
    """An error line like no other."""
    return f"(Worker pid=16) ERROR 11-22 07:58:32 [x.py:1] request {number} was odd: {number * 7}\n"


def lines(kind: Callable[[int], str], size: int) -> Iterator[str]:
    """So many bytes of a kind, and the end."""
    done = 0
    for number in itertools.count():
        text = kind(number)
        done += len(text)
        yield text
        if done >= size:
            break
    yield _END


def main() -> None:
    """Measure the three, out of a file as the command does."""
    size = int(sys.argv[1] if sys.argv[1:] else 50) * 1_000_000
    for kind in (served, repeated, different):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "server.log"
            path.write_text("".join(lines(kind, size)))
            began = time.process_time()
            with path.open() as file:
                found = diagnose(file)
            seconds = time.process_time() - began
        print(f"{kind.__name__:<10} {size / 1e6:.0f} MB  {seconds:.2f} s  {found.cause}")
        assert found.cause == "no_memory_for_kv_cache", found


if __name__ == "__main__":
    main()
