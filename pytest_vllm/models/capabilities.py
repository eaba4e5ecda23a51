"""What a served model can do: base or chat, which endpoints, and who said so.

Whether a model takes chat requests is asked in this order, and the first answer counts:

1. the user, who may know better than anybody;
2. the running server: `POST /tokenize` with messages costs nothing on the GPU. Whoever does
   not know that (llama.cpp, SGLang, a router) gets a chat request for one token;
3. the model's files: is there a chat template, and does the name not say "base";
4. the name.

An error is no answer: the next one is asked, and the error is kept as a note. Two facts stay
apart: `Verdict.kind` says whether the model *can take* chat requests (a template is there),
`Verdict.tuned` whether it *was trained* for them. Qwen2.5-0.5B can and was not.

A server that publishes no list of endpoints has not thereby said no: then they are tried.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from pytest_vllm.client.refusals import is_chat_refusal, server_message
from pytest_vllm.errors import SettingsError
from pytest_vllm.models import hub, names
from pytest_vllm.models.names import Kind
from pytest_vllm.spec import KNOWN_ANSWER_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import httpx

__all__ = [
    "Capabilities",
    "Kind",
    "Verdict",
    "by_files",
    "by_name",
    "decide",
    "is_chat_refusal",
    "probe",
]

#: Longest wait for one answer, in seconds, where the client would wait longer.
PATIENCE_S = 60.0

#: Capability -> endpoint, for those that the list of endpoints decides.
_LISTED = {
    "chat": "POST /v1/chat/completions",
    "completions": "POST /v1/completions",
    "tokenize": "POST /tokenize",
    "detokenize": "POST /detokenize",
    "embeddings": "POST /v1/embeddings",
    "responses": "POST /v1/responses",
    "messages": "POST /v1/messages",
    "score": "POST /score",
    "rerank": "POST /rerank",
    "pooling": "POST /pooling",
    "classify": "POST /classify",
    "transcriptions": "POST /v1/audio/transcriptions",
}
#: Capability -> what is fetched, since no list names `/metrics` and `/docs`; and the key of the
#: JSON answer that makes it the real thing and not some proxy's page.
_FETCHED = {
    "models": ("/v1/models", "data"),
    "version": ("/version", "version"),
    "metrics": ("/metrics", None),
    "docs": ("/docs", None),
    "health": ("/health", None),
}
_MESSAGES = [{"role": "user", "content": "x"}]
_TOOL = {
    "type": "function",
    "function": {"name": "noop", "parameters": {"type": "object", "properties": {}}},
}


@dataclass(frozen=True)
class Verdict:
    """Base or chat, who decided it, and why, in words for a report.

    Attributes:
        kind: Whether the model can take chat requests.
        decided_by: Whose answer it is; `nobody` goes with `unknown`.
        evidence: What that answer rests on.
        tuned: Whether the model was trained for chat, by its name or its files.
    """

    kind: Kind
    decided_by: Literal["user", "server", "files", "name", "nobody"]
    evidence: str
    tuned: Kind = "unknown"


@dataclass(frozen=True)
class Capabilities:
    """What the probes found. `has` and `why_not` serve the `requires("…")` markers."""

    chat: Verdict
    endpoints: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    #: Capability and evidence, of those that are not there.
    missing: tuple[tuple[str, str], ...] = ()

    def has(self, name: str) -> bool:
        """Whether the server has the capability of that name."""
        return name in self.names

    def why_not(self, name: str) -> str:
        """The evidence that it has not; empty if it has."""
        if name in self.names:
            return ""
        if name.split("/")[0] == KNOWN_ANSWER_PREFIX.rstrip("/"):
            return f"the model served is not {name}"
        known = ", ".join(sorted(self.names | dict(self.missing).keys()))
        return dict(self.missing).get(name) or f"no probe knows {name!r}, only: {known}"

    def as_dict(self) -> dict[str, object]:
        """The same in lists, dictionaries and strings, for a file or another process."""
        return {
            "chat": asdict(self.chat),
            "endpoints": sorted(self.endpoints),
            "names": sorted(self.names),
            "notes": list(self.notes),
            "missing": dict(self.missing),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> Capabilities:
        """The reverse of `as_dict`."""
        return cls(
            chat=Verdict(**facts["chat"]),
            endpoints=frozenset(facts["endpoints"]),
            names=frozenset(facts["names"]),
            notes=tuple(facts["notes"]),
            missing=tuple(sorted(facts["missing"].items())),
        )


def by_name(model: str) -> Verdict:
    """What the name alone says."""
    kind, reason = names.read(model)
    return Verdict(kind, "nobody" if kind == "unknown" else "name", reason, tuned=kind)


def by_files(model: str, cache_dir: Path | None) -> Verdict | None:
    """What the model's files say; None when they are not here, or not enough of them.

    Args:
        model: Hugging Face id, or path of a local model.
        cache_dir: The directory that holds `models--…`.
    """
    path = hub.snapshot(model, cache_dir)
    if path is None:
        return None
    tuned, _ = names.read(model)
    template = hub.chat_template(path)
    found = f"chat template in {template}" if template else hub.rendered_by_vllm(path)
    if found and (veto := names.base_despite_template(model)):
        return Verdict("base", "files", f"{found}, but {veto}", tuned="base")
    if found:
        # A name that says "base" and a template contradict each other: nobody knows.
        agreed: dict[Kind, Kind] = {"unknown": "chat", "base": "unknown"}
        return Verdict("chat", "files", found, tuned=agreed.get(tuned, tuned))
    if hub.has_tokenizer(path):
        return Verdict("base", "files", f"no chat template in {path}", tuned=tuned)
    return None


def decide(
    model: str,
    *,
    user_kind: str | None = None,
    cache_dir: Path | None = None,
    client: httpx.Client | None = None,
) -> Verdict:
    """Base or chat, by the first who knows: user, server (if there is a client), files, name.

    Raises:
        SettingsError: `user_kind` is neither `base` nor `chat`.
    """
    server = _Server(client) if client else None
    return _decide(model, user_kind, cache_dir, server)[0]


def probe(
    client: httpx.Client,
    model: str,
    *,
    user_kind: str | None = None,
    cache_dir: Path | None = None,
) -> Capabilities:
    """Ask a running server what it can do. A server that misbehaves makes notes, no errors.

    Args:
        client: Its base URL is the server's root, without `/v1`; key and time-outs are set.
        model: The name under which the server knows the model.
        user_kind: `base` or `chat` if the user says so.
        cache_dir: Where to look for the model's files.

    Raises:
        SettingsError: `user_kind` is neither `base` nor `chat`.
    """
    server = _Server(client)
    listing = server.ask("GET", "/openapi.json")
    listed = _endpoints(listing)
    chat, notes = _decide(model, user_kind, cache_dir, server)
    finding = _Finding(server, model, listed)
    finding.look("openapi", bool(listed), listing.evidence)
    finding.look_at_endpoints(chat)
    finding.look_at_the_rest()
    if not listed:
        why = f"no list of endpoints ({listing.evidence}): they were tried one by one"
        notes = (*notes, f"{why}; completions are taken for granted")
    missing = tuple(sorted(finding.missing.items()))
    return Capabilities(chat, listed, frozenset(finding.names), notes, missing)


def _decide(
    model: str, user_kind: str | None, cache_dir: Path | None, server: _Server | None
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict, and what should be noted on the way."""
    if user_kind not in (None, "base", "chat"):
        raise SettingsError(f"The kind of a model is 'base' or 'chat', not {user_kind!r}.")
    name, files = by_name(model), by_files(model, cache_dir)
    tuned = name.tuned if name.tuned != "unknown" or files is None else files.tuned
    kind, evidence, notes = server.takes_chat(model) if server else (None, "", ())
    if user_kind is not None:
        if kind not in (None, user_kind):
            notes = (*notes, f"the user says {user_kind}, the server {kind} ({evidence})")
        return Verdict(cast("Kind", user_kind), "user", "set by the user", tuned), notes
    if kind is not None:
        return Verdict(kind, "server", evidence, tuned), notes
    return files or name, notes


def _endpoints(listing: _Answer) -> frozenset[str]:
    """`POST /v1/completions` and so on; empty unless it is the list of an inference server.

    A router with one catch-all path publishes a list as well, which says nothing.
    """
    paths = listing.json().get("paths")
    found = {
        f"{method.upper()} {path}"
        for path, methods in (paths.items() if isinstance(paths, dict) else ())
        for method in (methods if isinstance(methods, dict) else ())
        if method in ("get", "post", "put", "delete", "patch", "head", "options")
    }
    speaks = any(re.match(r"POST /v1/\w", endpoint) for endpoint in found)
    return frozenset(found) if speaks else frozenset()


@dataclass(frozen=True)
class _Answer:
    """A server's answer to one question; `status` 0 means that none came."""

    question: str
    status: int
    body: str

    @property
    def evidence(self) -> str:
        """Question and answer in one line."""
        said = "" if self.status == 200 else server_message(self.body)[:200]
        return f"{self.question}: {self.status or 'no answer'} {said}".rstrip()

    def json(self) -> dict[str, Any]:
        """The JSON object that was answered with 200; empty for anything else."""
        try:
            value = json.loads(self.body) if self.status == 200 else {}
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class _Server:
    """Asks, and gives up on a server that twice did not answer at all."""

    client: httpx.Client
    silences: int = 0

    def ask(self, method: str, path: str, body: object = None, about: str = "") -> _Answer:
        """One request; whatever goes wrong is the answer."""
        import httpx

        question = f"{method} {path}{about and ' ' + about}"
        if self.silences >= 2:
            return _Answer(question, 0, "(not asked: the server was silent twice)")
        limits = self.client.timeout.as_dict()
        limits["read"] = min(limits["read"] or PATIENCE_S, PATIENCE_S)
        try:
            reply = self.client.request(method, path, json=body, timeout=httpx.Timeout(**limits))
            return _Answer(question, reply.status_code, reply.text)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict) as error:
            self.silences += 1
            return _Answer(question, 0, f"({type(error).__name__}: {error})")

    def takes_chat(self, model: str) -> tuple[Kind | None, str, tuple[str, ...]]:
        """Whether the server takes chat requests, the evidence, and notes; None if it is mum."""
        first = self.ask("POST", "/tokenize", {"model": model, "messages": _MESSAGES}, "(messages)")
        if kind := _reading(first, "count"):
            return kind, first.evidence, ()
        # 404 and 405: it is not vLLM, or a router before it. Others know /tokenize, but not with
        # messages, and say so with another 4xx, or with 200 and no tokens (llama.cpp).
        if not 200 <= first.status < 500 or first.status in (401, 403, 408, 429):
            return None, "", (f"base or chat: the server did not say ({first.evidence})",)
        request = {"model": model, "messages": _MESSAGES, "max_tokens": 1}
        second = self.ask("POST", "/v1/chat/completions", request)
        if kind := _reading(second, "choices"):
            return kind, second.evidence, ()
        asked = f"{first.evidence}; {second.evidence}"
        return None, "", (f"base or chat: the server did not say ({asked})",)


def _reading(answer: _Answer, key: str) -> Kind | None:
    """Chat for an answer that has `key`, base for the refusal, None for all else."""
    if answer.json().get(key):
        return "chat"
    return "base" if is_chat_refusal(answer.status, answer.body) else None


@dataclass
class _Finding:
    """Capability names as they are found, and why the others are missing."""

    server: _Server
    model: str
    listed: frozenset[str]
    names: set[str] = field(default_factory=set)
    missing: dict[str, str] = field(default_factory=dict)

    def look(self, name: str, there: bool, evidence: str) -> None:
        """Note one capability, or why it is missing."""
        if there:
            self.names.add(name)
        else:
            self.missing[name] = evidence

    def look_at_endpoints(self, chat: Verdict) -> None:
        """Capabilities that are an endpoint; `chat` needs a template, or nobody who denies it."""
        for name, endpoint in _LISTED.items():
            if name == "chat" and chat.kind == "base":
                self.look(name, False, f"base model ({chat.decided_by}: {chat.evidence})")
            elif self.listed:
                lists = f"GET /openapi.json lists no {endpoint}"
                self.look(name, endpoint in self.listed, lists)
            elif name == "completions":
                self.look(name, True, "")
            else:
                self._try(name, endpoint.removeprefix("POST "))

    def _try(self, name: str, path: str) -> None:
        """Is there something at `path`? An empty request costs nothing, and only 404 is a no."""
        bodies = {"tokenize": ("prompt", "x", "count"), "detokenize": ("tokens", [1], "prompt")}
        if name in bodies:  # Others have these too, and speak another language.
            key, value, expected = bodies[name]
            answer = self.server.ask("POST", path, {"model": self.model, key: value})
            strange = "" if answer.status != 200 else ", but not as vLLM answers"
            self.look(name, expected in answer.json(), answer.evidence + strange)
        else:
            answer = self.server.ask("POST", path, {}, "(empty)")
            self.look(name, answer.status not in (0, 404, 405, 501), answer.evidence)

    def look_at_the_rest(self) -> None:
        """What no list tells: pages, tools, embeddings of this model, our own models."""
        for name, (path, key) in _FETCHED.items():
            answer = self.server.ask("GET", path)
            there = key in answer.json() if key else answer.status == 200
            self.look(name, there, answer.evidence)
        self._look_at_embeddings()
        self._look_at_tools()
        if self.model.startswith(KNOWN_ANSWER_PREFIX):
            self.names |= {KNOWN_ANSWER_PREFIX.rstrip("/"), self.model}

    def _look_at_embeddings(self) -> None:
        """Many servers have the endpoint and refuse it for the model that they serve."""
        if "embeddings" in self.names:
            request = {"model": self.model, "input": "x"}
            answer = self.server.ask("POST", "/v1/embeddings", request)
            if 400 <= answer.status < 500 or answer.status == 501:
                self.names.discard("embeddings")
                self.look("embeddings", False, answer.evidence)

    def _look_at_tools(self) -> None:
        """Whether the model may choose a tool: in vLLM that needs a parser on the command line."""
        request = {"model": self.model, "messages": _MESSAGES, "max_tokens": 1, "tools": [_TOOL]}
        if "chat" in self.names:
            answer = self.server.ask("POST", "/v1/chat/completions", request, "(tools)")
            self.look("tools", bool(answer.json().get("choices")), answer.evidence)
        else:
            self.look("tools", False, f"no chat: {self.missing['chat']}")
