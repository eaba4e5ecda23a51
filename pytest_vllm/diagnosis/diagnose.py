"""From a log, an end state and a Docker error to one cause.

The order of decision: what Docker said; how the process ended; whether the server was healthy;
then the likely root causes in the log, deepest process first, and each against the rules.
`unknown` is an honest answer and shows the first error of the deepest process; `none` means that
nothing is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pytest_vllm.diagnosis import ending, facts
from pytest_vllm.diagnosis.reading import Line, Reading, read
from pytest_vllm.diagnosis.rules import DOCKER, LOG, Found, Rule
from pytest_vllm.diagnosis.rules.forms import in_both_forms
from pytest_vllm.diagnosis.rules.memory import PHASES, allocation_numbers, serving_remedy

__all__ = ["Diagnosis", "EndState", "diagnose"]


class EndState(Protocol):
    """What is known of the end of a server."""

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal."""

    @property
    def oom_killed(self) -> bool | None:
        """Whether the kernel killed it for lack of memory."""


@dataclass(frozen=True)
class Diagnosis:
    """One cause.

    Attributes:
        cause: Its class, a stable name for machines; `unknown` if no rule knows it, `none` if
            nothing is wrong.
        title: What happened, in one sentence.
        evidence: The line that shows it.
        remedy: What to do, ready to paste.
        numbers: The figures that the remedy rests on.
        confidence: 0 to 1.
        also: Other causes that the log speaks for, less likely.
    """

    cause: str
    title: str
    evidence: str = ""
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = 1.0
    also: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "cause": self.cause,
            "title": self.title,
            "evidence": self.evidence,
            "remedy": self.remedy,
            "numbers": dict(self.numbers),
            "confidence": self.confidence,
            "also": list(self.also),
        }


_SEARCH = (
    "Search for this line in vLLM's issues (https://github.com/vllm-project/vllm/issues); "
    "--vllm-env VLLM_LOGGING_LEVEL=DEBUG (docker run -e VLLM_LOGGING_LEVEL=DEBUG) makes the server say more."
)
_LOOK = (
    "Start it again with --vllm-env VLLM_LOGGING_LEVEL=DEBUG (docker run -e VLLM_LOGGING_LEVEL=DEBUG), and look at "
    "dmesg and docker inspect."
)

#: How a log looks that is nothing but the words of Docker.
_DOCKER_TEXT = re.compile(
    r"^docker: |Error response from daemon|docker\.errors\.|http\+docker://|Cannot connect to the Docker"
    r"|Docker daemon socket|unable to resolve docker endpoint",
    re.MULTILINE,
)


def diagnose(
    log: str | Iterable[str],
    *,
    state: EndState | None = None,
    docker_error: str | None = None,
    spec: Any = None,
    host: Any = None,
) -> Diagnosis:
    """Find the cause of a failed start or a death.

    Args:
        log: The server's log, in any version's wording, with or without prefixes; its text, or
            its lines, which are read once and not kept.
        state: How its process ended, if it did.
        docker_error: What the Docker engine or its command said instead of starting it.
        spec: What was asked for.
        host: What is known of the machine and the container's limits, a mapping: `memory_mb`,
            `pids_limit`, `nofile`, `uid`, `port`, `render_gid`, `video_gid`, `gfx`.
    """
    reading = read(log)
    state = ending.completed(state, reading.end(4000))
    found = _decide(reading, state, docker_error, spec)
    return facts.added(found, reading, state, host)


def _decide(
    reading: Reading, state: EndState | None, docker_error: str | None, spec: Any
) -> Diagnosis:
    if docker_error and (found := _docker(docker_error)):
        return found
    if docker_error and not reading.last:
        return _unknown(reading, docker_error)
    if state is not None and state.oom_killed:
        return _from(ending.without_words(reading, state)) or _healthy(reading)
    if not reading.ready and _DOCKER_TEXT.search(end := reading.end()) and (found := _docker(end)):
        return found
    if reading.ready:
        return _after_ready(reading, state, spec)
    if state is not None and state.exit_code == 0 and not reading.roots():
        return _healthy(reading)  # somebody cut the log, or stopped it early
    return (
        _cause(reading, spec)
        or _tls_file(reading)
        or _weight_loader(reading)
        or _from(ending.without_words(reading, state))
        or _warned(reading, spec)
        or _unknown(reading, docker_error)
    )


def _docker(text: str) -> Diagnosis | None:
    """Match the words of Docker; the last line with any is the outermost, so all are one text."""
    text = text[-20_000:]
    lines = [Line(line.strip()[:4000], 0, "", n) for n, line in enumerate(text.splitlines(), 1)]
    telling = [line for line in lines if _DOCKER_TEXT.search(line.text)] or lines
    found = _first_match(DOCKER, reversed(telling), None, 1.0) or _first_match(
        DOCKER, lines, None, 0.9
    )
    status = re.search(r"\b([45]\d\d) (?:Client|Server) Error", text)
    if found and status:
        return _with(found, numbers={**found.numbers, "status": int(status[1])})
    return found


def _cause(reading: Reading, spec: Any) -> Diagnosis | None:
    """The first rule that knows the root cause; then any rule that knows any line."""
    roots = reading.roots()
    anywhere = tuple(rule for rule in LOG if rule.anywhere)
    # Some rules know a sentence that says it all, wherever it stands; the order is theirs.
    said = [line for line in reading.lines if line.level != "WARNING"]
    certain = _by_rule(anywhere, said, spec)
    root = next((found for line in roots if (found := _first_match(LOG, [line], spec, 0.9))), None)
    chosen = certain or root
    if chosen is None:
        return None
    chosen = _by_phase(chosen, reading)
    others = {found.cause for found in (certain, root) if found} - {chosen.cause}
    return _with(chosen, also=tuple(sorted(others)))


def _warned(reading: Reading, spec: Any) -> Diagnosis | None:
    """What was only warned of, where nothing else is said: healthy servers warn a lot, too."""
    if reading.roots():
        return None
    warnings = [line for line in reading.lines if line.level == "WARNING"]
    found = _by_rule(tuple(rule for rule in LOG if rule.anywhere), warnings, spec)
    return _with(found, confidence=0.5) if found else None


def _by_rule(rules: Iterable[Rule], lines: list[Line], spec: Any) -> Diagnosis | None:
    deepest = sorted(lines, key=lambda line: (-line.depth, line.number))
    text = "\n".join(line.text for line in deepest)
    for rule in rules:
        # One search over everything is much faster than one per line; `.` does not cross lines.
        if (match := rule.worst_in(text)) is not None:
            return _diagnosis(rule, Found(_in_line(rule, match, text), text, spec), 0.95)
    return None


def _in_line(rule: Rule, match: re.Match[str], text: str) -> re.Match[str]:
    """The same match, whose string is its line only, so that figures are not taken elsewhere."""
    begin = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", match.end())
    line = text[begin : end if end >= 0 else len(text)]
    return rule.pattern.search(line) or match


def _first_match(
    rules: Iterable[Rule], lines: Iterable[Line], spec: Any, confidence: float
) -> Diagnosis | None:
    rules = tuple(rules)
    for line in lines:
        for rule in rules:
            if (match := rule.pattern.search(line.text)) is not None:
                return _diagnosis(rule, Found(match, line.text, spec), confidence)
    return None


def _diagnosis(rule: Rule, found: Found, confidence: float) -> Diagnosis:
    line = found.match.string.strip()
    return Diagnosis(
        rule.cause,
        rule.title_for(found),
        line if len(line) <= 500 else f"{line[:500]}…",
        in_both_forms(rule.remedy_for(found)),
        rule.numbers_for(found),
        confidence,
    )


def _by_phase(found: Diagnosis, reading: Reading) -> Diagnosis:
    """Memory that ended: where, once the weights were there?"""
    trace = reading.trace
    if found.cause == "model_path_empty" and "speculative" in trace:
        return _with(
            found, cause="model_path_not_found", title="The draft model's folder does not exist."
        )
    if found.cause != "oom_loading_weights":
        return found
    for cause, pattern, title, remedy in PHASES:
        if re.search(pattern, trace, re.IGNORECASE):
            return _with(found, cause=cause, title=title, remedy=remedy)
    return found


def _after_ready(reading: Reading, state: EndState | None, spec: Any) -> Diagnosis:
    """The server was healthy once: did it die while serving, and of what?"""
    serving = reading.serving()
    if found := _never_bound(serving):
        return found
    if (death := ending.death_in(serving)) is not None:
        return _died(serving, death, spec)
    if ending.is_violent(state) and not reading.stopped:
        return (
            _cause(serving, spec)
            or _from(ending.without_words(serving, state))
            or _unknown(serving, None)
        )
    return _healthy(reading)


def _never_bound(serving: Reading) -> Diagnosis | None:
    """Old versions say that they are ready, and then find their port taken."""
    rules = tuple(rule for rule in LOG if rule.cause in ("port_in_use", "bind_address_invalid"))
    errors = [line for line in serving.lines if line.level == "ERROR" or line.is_exception]
    return _by_rule(rules, [line for line in errors if "bind" in line.text], None)


def _died(serving: Reading, death: str, spec: Any) -> Diagnosis:
    cause = _cause(serving, spec)
    if cause is None or cause.cause in ("library_mismatch", "python_package_missing"):
        return _died_of_unknown(serving, death)
    found, remedy = cause, cause.remedy
    if "oom" in cause.cause:
        match = re.search(r".*", found.evidence)
        assert match is not None
        remedy = in_both_forms(serving_remedy(Found(match)))
        found = _with(found, numbers=allocation_numbers(Found(match)))
    title = f"The engine died while it served: {found.title[:1].lower()}{found.title[1:]}"
    also = "oom_serving" if "oom" in cause.cause else cause.cause
    return _with(found, cause="engine_died_serving", title=title, remedy=remedy, also=(also,))


def _died_of_unknown(serving: Reading, death: str) -> Diagnosis:
    roots = [line for line in serving.roots() if line.depth >= 2 or not line.depth]
    if roots:
        title = "The engine died while it served, of an error that no rule knows."
        evidence = serving.around(roots[0])
        return Diagnosis("engine_died_serving", title, evidence, _SEARCH, confidence=0.7)
    title = "The engine died while it served, without a word: it was killed from outside."
    remedy = (
        "Look for the out-of-memory killer (dmesg | grep -i oom) and for other signals; give the host or the "
        "container more memory (docker run --memory), and serve with a lower --vllm-gpu-util "
        "(vllm serve --gpu-memory-utilization)."
    )
    return Diagnosis("engine_died_serving", title, death, remedy, confidence=0.9)


#: What breaks requests, and not the server.
_REQUESTS = (
    "chat_template_invalid",
    "chat_template_missing",
    "request_too_long",
    "tool_choice_not_enabled",
    "model_name_mismatch",
)


def _healthy(reading: Reading) -> Diagnosis:
    """Nothing is wrong, but for what breaks requests only."""
    rules = tuple(rule for rule in LOG if rule.cause in _REQUESTS)
    if found := _by_rule(rules, reading.lines, None):
        return _with(found, confidence=0.6)
    return Diagnosis("none", "Nothing is wrong with this server.", reading.last)


def _tls_file(reading: Reading) -> Diagnosis | None:
    """Python names no file here, but the function that wanted one."""
    if "load_cert_chain" not in reading.trace:
        return None
    error = next((line.text for line in reading.roots() if "FileNotFoundError" in line.text), "")
    remedy = "Mount the files into the container, and correct --ssl-keyfile and --ssl-certfile."
    return Diagnosis("tls_file_missing", "The TLS key or certificate is not there.", error, remedy)


def _weight_loader(reading: Reading) -> Diagnosis | None:
    """An assertion says nothing, but the line that it stands in does."""
    roots = reading.roots()
    bare = roots and roots[0].text.strip() == "AssertionError"
    if not bare or not re.search(r"loaded_weight\.(?:shape|size\(\))|load_weights", reading.trace):
        return None
    title = "The weights do not fit the model's config.json: a tensor has another shape."
    remedy = (
        "Use config.json and weights of the same checkpoint: hf download MODEL --force-download; "
        "quantized weights may want another --vllm-gpus (vllm serve --tensor-parallel-size), one that divides their groups."
    )
    evidence = reading.around(roots[0])
    return Diagnosis("weights_config_mismatch", title, evidence, remedy, confidence=0.7)


def _unknown(reading: Reading, docker_error: str | None) -> Diagnosis:
    """Nobody knows: show the most telling line."""
    roots = reading.roots()
    error = roots[0].text.strip() if roots else (docker_error or "").strip()
    title = "The log names an error that no rule knows." if error else "The log names no error."
    evidence = reading.around(roots[0]) if roots else error
    return Diagnosis("unknown", title, evidence, _SEARCH if error else _LOOK, confidence=0.0)


def _from(found: tuple[str, str, str, str, dict[str, Any]] | None) -> Diagnosis | None:
    if found is None:
        return None
    cause, title, evidence, remedy, numbers = found
    return Diagnosis(cause, title, evidence, remedy, numbers, 0.8)


def _with(found: Diagnosis, **changes: Any) -> Diagnosis:
    from dataclasses import replace

    return replace(found, **changes)
