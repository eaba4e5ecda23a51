"""The questions that a running server is asked, and what its answers mean.

Whatever goes wrong is an answer too: nothing here raises for a server that misbehaves.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard

from pytest_vllm.client.refusals import is_chat_refusal, server_message
from pytest_vllm.redaction import redact
from pytest_vllm.spec import KNOWN_ANSWER_PREFIX

if TYPE_CHECKING:
    import httpx

    from pytest_vllm.models.names import Kind

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
_ONLY_VLLM = frozenset({"POST /tokenize", "POST /detokenize", "GET /load", "POST /invocations"})
_ALWAYS = frozenset({"models", "version", "metrics", "health"})
_MESSAGES = [{"role": "user", "content": "x"}]
_TOOL = {
    "type": "function",
    "function": {"name": "noop", "parameters": {"type": "object", "properties": {}}},
}
#: Statuses that mean that something is not there; 0 is no answer at all.
_NOT_THERE = (0, 404, 405, 501)


def endpoints_of(listing: Answer) -> frozenset[str]:
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
class Answer:
    """A server's answer to one question; `status` 0 means that none came."""

    question: str
    status: int
    body: str

    @property
    def evidence(self) -> str:
        """Question and answer in one line."""
        said = "" if self.status == 200 else server_message(self.body)[:200]
        return redact(f"{self.question}: {self.status or 'no answer'} {said}".rstrip())

    def json(self) -> dict[str, Any]:
        """The JSON object that was answered with 200; empty for anything else."""
        try:
            value = json.loads(self.body) if self.status == 200 else {}
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) else {}


@dataclass
class Asking:
    """Asks, and gives up on a server that twice did not answer at all."""

    client: httpx.Client
    silences: int = 0

    def ask(self, method: str, path: str, body: object = None, about: str = "") -> Answer:
        """One request; whatever goes wrong is the answer."""
        import httpx

        question = f"{method} {path}{about and ' ' + about}"
        if self.silences >= 2:
            return Answer(question, 0, "(not asked: the server was silent twice)")
        limits = self.client.timeout.as_dict()
        limits["read"] = min(limits["read"] or PATIENCE_S, PATIENCE_S)
        try:
            reply = self.client.request(method, path, json=body, timeout=httpx.Timeout(**limits))
            return Answer(question, reply.status_code, reply.text)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict) as error:
            self.silences += 1
            return Answer(question, 0, f"({type(error).__name__}: {error})")

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


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _reading(answer: Answer, key: str) -> Kind | None:
    """Chat for an answer that has `key`, base for the refusal, None for all else."""
    if answer.json().get(key):
        return "chat"
    return "base" if is_chat_refusal(answer.status, answer.body) else None


@dataclass
class Finding:
    """Capability names as they are found, and why the others are missing."""

    server: Asking
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

    def look_at_endpoints(self, base: str) -> None:
        """Capabilities that are an endpoint; `base` is why the model has no chat, or ""."""
        for name, endpoint in _LISTED.items():
            if name == "chat" and base:
                self.look(name, False, base)
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
            self.look(name, answer.status not in _NOT_THERE, answer.evidence)

    def look_at_the_rest(self) -> None:
        """What no list tells: pages, tools, embeddings of this model, our own models."""
        for name, (path, key) in _FETCHED.items():
            answer = self.server.ask("GET", path)
            good = key in answer.json() if key else answer.status == 200
            # A page that is there and broken is for the tests to judge.
            broken = answer.status >= 500 and answer.status not in _NOT_THERE
            self.look(name, good or broken, answer.evidence)
            if name == "models":
                self._look_for_vllm(answer)
        if self.listed.issuperset(_ONLY_VLLM):
            # Nobody stands before it: what every vLLM has is missing only where it is broken.
            self.names |= _ALWAYS
            self.missing = {k: v for k, v in self.missing.items() if k not in _ALWAYS}
        self._look_at_embeddings()
        self._look_at_generation()
        self._look_at_tools()
        if self.model.startswith(KNOWN_ANSWER_PREFIX):
            self.names |= {KNOWN_ANSWER_PREFIX.rstrip("/"), self.model}

    def _look_for_vllm(self, models: Answer) -> None:
        """Is it vLLM? Its models say so, or it lists endpoints that only vLLM has together."""
        data = models.json().get("data")
        entries = [entry for entry in data if isinstance(entry, dict)] if _is_list(data) else []
        owners = [str(entry.get("owned_by")) for entry in entries]
        by_list = self.listed.issuperset(_ONLY_VLLM)
        evidence = f"it is not vLLM: GET /v1/models says owned_by {', '.join(owners) or 'nothing'}"
        self.look("vllm", "vllm" in owners or by_list, evidence)

    def _look_at_embeddings(self) -> None:
        """Many servers have the endpoint and refuse it for the model that they serve."""
        if "embeddings" in self.names:
            request = {"model": self.model, "input": "x"}
            answer = self.server.ask("POST", "/v1/embeddings", request)
            if 400 <= answer.status < 500 or answer.status == 501:
                self.names.discard("embeddings")
                self.look("embeddings", False, answer.evidence)

    def _look_at_generation(self) -> None:
        """Whether it generates text at all: a server for embeddings has no such endpoint.

        Nothing is excused on a server that lists neither: its tests must fail.
        """
        pools = self.listed & {"POST /v1/embeddings", "POST /pooling"}
        writes = self.listed & {"POST /v1/completions", "POST /v1/chat/completions"}
        evidence = f"GET /openapi.json lists {', '.join(sorted(pools))} and no completions"
        self.look("generation", bool(writes) or not pools, evidence)

    def _look_at_tools(self) -> None:
        """Whether the model may choose a tool: in vLLM that needs a parser on the command line."""
        request = {"model": self.model, "messages": _MESSAGES, "max_tokens": 1, "tools": [_TOOL]}
        if "chat" in self.names:
            answer = self.server.ask("POST", "/v1/chat/completions", request, "(tools)")
            self.look("tools", bool(answer.json().get("choices")), answer.evidence)
        else:
            self.look("tools", False, f"no chat: {self.missing['chat']}")
