"""Records a healthy server, and what each fault turns red on it.

python -m tests.recordings.record http://127.0.0.1:8104 acme/tiny-chat /tmp/faults.jsonl

The third argument is the output of `tests.proxy.measure` (--out): it says which tests are worth
asking about each fault. Writes NAME.json.gz (the answers) and expected-NAME.json beside this file.
"""

from __future__ import annotations

import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.proxy.catalogue import FAULTS
from tests.proxy.expected import FOLDER, Expected, judged, save, slug
from tests.proxy.fault import Fault
from tests.proxy.harness import Test, Verdict, collect, connect, run
from tests.proxy.proxy import Proxy
from tests.proxy.recording import Recorder, Replay
from tests.proxy.server import Handler, Upstream, serving

#: How many tests are kept for each fault: red ones, and neighbours that stay green.
RED, GREEN = 2, 2
#: How many faults are tried at the same time.
TOGETHER = 4


def tried(handler: Handler, model: str, fault: Fault | None, tests: list[Test]) -> list[Verdict]:
    """Run tests through a fault in front of a handler."""
    with serving(Proxy(handler, fault)) as url:
        try:
            server, client = connect(url, model)
        except Exception as refusal:
            return [Verdict("start", "failed", str(refusal) or repr(refusal))]
        try:
            return run(tests, server, client, threads=4)
        finally:
            client.close()


def suggestions(path: Path) -> dict[str, list[str]]:
    """Fault -> tests that once went red, by a file of `measure`."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        found.setdefault(entry["fault"], []).extend(test for test, _ in entry["red"])
    return found


def main(arguments: list[str]) -> None:
    """Record in front of the server, then check that the recording says the same."""
    url, model, measured = arguments
    recorder = Recorder(Upstream(url))
    tests = {t.name: t for t in collect() if not t.marked("alone")}
    known = suggestions(Path(measured))
    red = {f: [t for t in dict.fromkeys(names) if t in tests][:RED] for f, names in known.items()}
    stable = sorted({t for names in red.values() for t in names})
    healthy = judged(tried(recorder, model, None, [tests[name] for name in stable]), {})
    plans = []
    pick = random.Random(0)
    for fault in FAULTS.values():
        asked = [t for t in red.get(fault.name, []) if t not in healthy]
        if asked or "start" in known.get(fault.name, []):
            others = [t for t in stable if t not in asked and t not in healthy]
            plans.append((fault, [tests[t] for t in (*asked, *pick.sample(others, GREEN))]))

    def measure(plan: tuple[Fault, list[Test]]) -> tuple[str, Expected]:
        verdicts = tried(recorder, model, *plan)
        passed = tuple(v.test for v in verdicts if v.outcome == "passed")
        return plan[0].name, Expected(judged(verdicts, healthy), passed)

    with ThreadPoolExecutor(TOGETHER) as pool:
        expected = {name: entry for name, entry in pool.map(measure, plans) if entry.red}
    path = FOLDER / f"{slug(model)}.json.gz"
    recorder.save(path, model=model, recorded=time.strftime("%Y-%m-%d"))
    # A near-tie that a real server once rounded the other way cannot be tried again here.
    unsteady = judged(tried(Replay(path), model, None, [tests[name] for name in stable]), {})
    kept = {
        name: entry
        for name, entry in expected.items()
        if not unsteady.keys() & {*entry.red, *entry.green}
        and _holds(path, model, name, entry, tests)
    }
    save(model, kept)
    dropped = sorted(set(expected) - set(kept))
    print(f"{len(kept)} faults kept, {path.stat().st_size} bytes; not by replay: {dropped}")


def _holds(path: Path, model: str, name: str, entry: Expected, tests: dict[str, Test]) -> bool:
    verdicts = tried(Replay(path), model, FAULTS[name], entry.of(tests))
    return judged(verdicts, {}) == entry.red


if __name__ == "__main__":
    main(sys.argv[1:])
