"""How many faults does the suite catch? Against a real server, from the command line.

python -m tests.proxy.measure http://127.0.0.1:8104 acme/tiny-chat [--fault GLOB]… [--test GLOB]…
    [--enough 3] [--out results.jsonl] [--healthy]
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import importlib
import json
import re
import sys
import time
from pathlib import Path

from tests.proxy.fault import Fault
from tests.proxy.harness import Test, Verdict, collect, connect, run
from tests.proxy.memo import Memo
from tests.proxy.proxy import proxied
from tests.proxy.server import Handler, Upstream


def attempt(
    url: str | Handler,
    model: str,
    fault: Fault | None,
    tests: list[Test],
    enough: int,
    threads: int = 8,
) -> tuple[list[Verdict], list[str]]:
    """The verdicts with one fault (or none), and the mistakes that the fault itself made."""
    upstream = Upstream(url) if isinstance(url, str) else url
    with proxied(upstream, fault) as (address, proxy):
        try:
            server, client = connect(address, model)
        except Exception as refusal:
            return [Verdict("start", "failed", str(refusal) or repr(refusal))], proxy.mistakes
        with contextlib.closing(client):
            return run(tests, server, client, enough=enough, threads=threads), proxy.mistakes


_WORD = re.compile(r"[a-z]{3,}")


def by_relevance(tests: list[Test], caught: dict[str, list[str]], name: str) -> list[Test]:
    """Those that caught this fault before come first, then those whose names sound like it."""
    before = set(caught.get(name, ()))
    words = set(_WORD.findall(name)) - {"the", "are", "ignored", "left", "out", "one", "too"}

    def rank(test: Test) -> tuple[bool, int]:
        return test.name not in before, -len(words & set(_WORD.findall(test.name)))

    return sorted(tests, key=rank)


def main(arguments: list[str]) -> int:
    """Measure, print a line per fault, and a sum."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--test", action="append", default=[])
    parser.add_argument("--on", action="append", default=[])
    parser.add_argument("--enough", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--healthy", action="store_true")
    parser.add_argument("--memo", type=Path, help="ask the server once, and remember here")
    parser.add_argument("--faults-of", default="tests.proxy.catalogue", help="a module with FAULTS")
    parser.add_argument("--fresh", action="store_true", help="only faults that --out does not have")
    parser.add_argument(
        "--missed", action="store_true", help="only faults that --out has as missed"
    )
    parser.add_argument("--out", type=Path, default=Path("/tmp/w/faults.jsonl"))
    options = parser.parse_args(arguments)
    tests = collect(*options.test)
    faults = importlib.import_module(options.faults_of).FAULTS
    faults = faults.values() if isinstance(faults, dict) else faults
    known = (
        [json.loads(line) for line in options.out.read_text().splitlines()]
        if options.out.exists()
        else []
    )
    known = [entry for entry in known if entry["model"] == options.model]
    caught = {entry["fault"]: [t for t, _ in entry["red"]] for entry in known}
    memo = Memo(Upstream(options.url), options.memo) if options.memo else None
    if memo is not None:
        tests = [test for test in tests if not test.marked("alone")]
    upstream = memo or options.url
    healthy, _ = attempt(upstream, options.model, None, tests, 0, options.threads)
    if memo is not None:
        memo.save()
    red = {v.test: v for v in healthy if v.outcome == "failed"}
    skipped = sum(v.outcome == "skipped" for v in healthy)
    print(f"healthy: {len(healthy)} tests, {skipped} skipped, red {len(red)}", flush=True)
    for verdict in list(red.values())[:25]:
        print(f"   {verdict.test}: {verdict.rule[:220]}")
    for verdict in sorted(healthy, key=lambda v: -v.seconds)[:4]:
        print(f"   {verdict.seconds:5.1f} s {verdict.test}")
    if options.healthy:
        return bool(red)
    tests = [test for test in tests if test.name not in red]
    chosen = [
        f
        for f in faults
        if (not options.fault or any(fnmatch.fnmatch(f.name, p) for p in options.fault))
        and (not options.on or f.on in options.on)
        and not (options.fresh and f.name in caught)
        and not (options.missed and caught.get(f.name, ["x"]))
    ]
    missed = []
    for fault in chosen:
        began = time.monotonic()
        order = by_relevance(tests, caught, fault.name)
        if memo is not None:
            memo.again()
        verdicts, mistakes = attempt(
            upstream, options.model, fault, order, options.enough, options.threads
        )
        failed = [v for v in verdicts if v.outcome == "failed"]
        entry = {
            "model": options.model,
            "fault": fault.name,
            "mistakes": mistakes[:3],
            "red": [(v.test, v.rule) for v in failed],
        }
        with options.out.open("a") as out:
            out.write(json.dumps(entry) + "\n")
        word = "caught" if failed else "MISSED"
        shown = f"{failed[0].test}: {failed[0].rule[:110]}" if failed else ""
        print(
            f"{word} {fault.name} ({time.monotonic() - began:.1f} s) {shown}"
            + (f" MISTAKES {mistakes[:2]}" if mistakes else ""),
            flush=True,
        )
        if not failed:
            missed.append(fault.name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught; missed: {' '.join(missed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
