"""Ask the server in this container whether it is healthy; exit 0 when it says yes.

The port is read from the command line of process 1, so that `--port 9000` does not make a
healthy server look dead.
"""

from __future__ import annotations

import sys
import urllib.request
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

PORT = "8000"
# No proxy: with HTTP_PROXY set for model downloads, urlopen would ask the proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(cmdline: Path = Path("/proc/1/cmdline")) -> int:
    """Exit 1 on any answer but 200, and on none: Docker counts them alike."""
    words = cmdline.read_bytes().decode(errors="replace").split("\0")
    try:
        with OPENER.open(f"http://127.0.0.1:{port(words)}/health", timeout=4):
            return 0
    except OSError as error:
        print(error)
        return 1


def port(words: Sequence[str]) -> str:
    """Find the last --port, as `--port 9000` or `--port=9000`: the last one wins in vLLM."""
    found = PORT
    for word, after in pairwise([*words, ""]):
        if word == "--port" and after.isdigit():
            found = after
        elif word.startswith("--port=") and word[7:].isdigit():
            found = word[7:]
    return found


if __name__ == "__main__":
    sys.exit(main())
