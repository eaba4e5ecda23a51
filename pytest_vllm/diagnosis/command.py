"""`python -m pytest_vllm diagnose`: the diagnosis for people who do not use pytest."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from pytest_vllm.diagnosis.diagnose import Diagnosis, diagnose
from pytest_vllm.diagnosis.ending import Ending
from pytest_vllm.redaction import redact

_GZIP = b"\x1f\x8b"


class Mistake(Exception):
    """Something that the user has to correct; the message says what."""


def main(arguments: Sequence[str]) -> int:
    """Diagnose a log; returns 0 where a cause is known (or nothing is wrong), 1 where not, 2 for a
    mistake of the user.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.container and options.file != "-":
            raise Mistake("give a file or --container, not both")
        found = _of_container(options.container) if options.container else _of_file(options.file)
    except Mistake as error:
        print(f"diagnose: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"diagnose: {options.file}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(redact(json.dumps(found.as_dict(), ensure_ascii=False) if options.json else _text(found)))
    return 1 if found.cause == "unknown" else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pytest_vllm diagnose",
        description="Say why a vLLM server failed, from its log, and what to do.",
    )
    parser.add_argument(
        "file", nargs="?", default="-", help="Log file, also gzipped, or - for standard input"
    )
    parser.add_argument(
        "--container", metavar="NAME", help="Ask Docker for the log and the end of it"
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object")
    return parser


def _of_file(name: str) -> Diagnosis:
    if name == "-":
        if sys.stdin.isatty():
            print("diagnose: reading the log from standard input; Ctrl-D ends it", file=sys.stderr)
        # Whatever bytes a log holds, and whatever the locale is.
        stdin = io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="replace")
        try:
            return _of_lines(stdin, "standard input")
        finally:
            stdin.detach()
    with _opened(Path(name)) as file:
        return _of_lines(file, name)


def _of_lines(lines: TextIO, name: str) -> Diagnosis:
    """Diagnose lines as they come: a log may be larger than the memory."""
    seen = _Seen(lines)
    found = diagnose(seen)
    if not seen.any:
        raise Mistake(f"{name} is empty: is it the log? docker logs NAME 2>&1 | …")
    if seen.binary:
        raise Mistake(f"{name} is no text: a core dump, a database or an archive?")
    return found


class _Seen:
    """Lines, of which none is longer than 64 KiB, and what kind they are."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self.any = False
        self.binary = False

    def __iter__(self) -> Iterator[str]:
        bad = 0
        for number, line in enumerate(iter(lambda: self._lines.readline(1 << 16), "")):
            self.any = self.any or bool(line.strip())
            bad += "\0" in line or line.count("\ufffd") > len(line) / 10
            # A few broken bytes stand in many logs; a file that begins with them is another thing.
            if (number < 20 and bad > 5) or (number == 0 and line.startswith("\x7fELF")):
                self.binary = True
                return
            yield line
        self.binary = self.binary or (bad > 0 and bad > (number + 1) / 2)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    if path.is_dir():
        raise Mistake(f"{path} is a folder: name the log in it")
    if not path.exists():
        raise Mistake(f"there is no file {path}; a container's log: --container NAME")
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    with (
        gzip.open(path, "rt", encoding="utf-8", errors="replace")
        if packed
        else path.open(encoding="utf-8", errors="replace") as file
    ):
        try:
            yield file
        except (EOFError, gzip.BadGzipFile) as error:
            raise Mistake(f"{path} is a damaged gzip file: {error}") from None


def _of_container(name: str) -> Diagnosis:
    import docker
    import docker.errors

    try:
        container = docker.from_env().containers.get(name)
        state = container.attrs["State"]
        lines = _lines(container.logs(stream=True, follow=False))
        return diagnose(
            lines,
            state=_ending(state),
            docker_error=state.get("Error") or None,
            host=_limits(container.attrs.get("HostConfig") or {}),
        )
    except docker.errors.NotFound:
        raise Mistake(
            f"there is no container {name}: docker ps -a shows those that there are. "
            "One that was started with --rm is gone, and its log with it."
        ) from None
    except docker.errors.DockerException as error:
        found = diagnose("", docker_error=str(error))
        raise Mistake(f"{found.title} {found.remedy}\n  {error}") from None


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    """Docker sends a log in chunks that end anywhere."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest:
        yield rest.decode("utf-8", "replace")


def _ending(state: Mapping[str, Any]) -> Ending | None:
    """How it ended; None for one that runs, or was never started."""
    if state.get("Running") or (state.get("Status") == "created" and not state.get("Error")):
        return None
    return Ending(state.get("ExitCode"), state.get("OOMKilled"))


def _limits(config: Mapping[str, Any]) -> dict[str, int]:
    """The limits that the container was given."""
    limits = {}
    if config.get("Memory"):
        limits["memory_mb"] = int(config["Memory"]) // 2**20
    if (config.get("PidsLimit") or 0) > 0:
        limits["pids_limit"] = int(config["PidsLimit"])
    for ulimit in config.get("Ulimits") or ():
        if ulimit.get("Name") == "nofile":
            limits["nofile"] = int(ulimit["Soft"])
    return limits


def _text(found: Diagnosis) -> str:
    rows = [
        ("cause", f"{found.title} [{found.cause}]"),
        ("evidence", found.evidence.replace("\n", "\n" + " " * 10)),
        ("do", found.remedy),
    ]
    rows.append(("also", ", ".join(found.also)))
    return "\n".join(f"{name:<9} {value}" for name, value in rows if value)
