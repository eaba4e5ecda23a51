"""The proxy: a real server behind it, one fault in between.

python -m tests.proxy.proxy http://127.0.0.1:8000 FAULT   serves until it is interrupted
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.proxy.fault import Fault
from tests.proxy.messages import Ask, Cut, Reply
from tests.proxy.server import Gone, Handler, serving

__all__ = ["Proxy", "proxied"]


@dataclass
class Proxy:
    """A handler for `serving`. `mistakes` are the fault's own: there should be none."""

    upstream: Handler
    fault: Fault | None = None
    mistakes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.apply = self.fault.start() if self.fault else None

    def __call__(self, ask: Ask, gone: Gone) -> Reply:
        """Pass a request on, through the fault."""
        if self.apply is None:
            return self.upstream(ask, gone)
        try:
            reply = self.apply(ask, lambda asked: self.upstream(asked, gone))
        except OSError:
            raise
        except Exception as mistake:
            self.mistakes.append(f"{ask.method} {ask.path}: {mistake!r}")
            return self.upstream(ask, gone)
        reply.parts = self._watched(iter(reply.parts), ask)
        return reply

    def _watched(self, parts: Iterator[bytes], ask: Ask) -> Iterator[bytes]:
        try:
            yield from parts
        except (Cut, OSError):
            raise
        except Exception as mistake:
            self.mistakes.append(f"{ask.method} {ask.path} (stream): {mistake!r}")
            raise Cut from None
        finally:
            if (close := getattr(parts, "close", None)) is not None:
                close()


@contextlib.contextmanager
def proxied(upstream: Handler, fault: Fault | None = None) -> Iterator[tuple[str, Proxy]]:
    """Serve a proxy on a port of its own; gives its base URL and itself."""
    proxy = Proxy(upstream, fault)
    with serving(proxy) as url:
        yield url, proxy


def main(arguments: list[str]) -> None:
    """Serve one fault for somebody's own client."""
    from tests.proxy.catalogue import FAULTS
    from tests.proxy.server import Upstream

    url, *names = arguments
    with proxied(Upstream(url), FAULTS[names[0]] if names else None) as (address, _):
        print(address, flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(sys.argv[1:])
