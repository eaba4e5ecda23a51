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

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from pytest_vllm.client.refusals import is_chat_refusal
from pytest_vllm.errors import SettingsError
from pytest_vllm.models import hub, names
from pytest_vllm.models.names import Kind
from pytest_vllm.models.probing import Asking, Finding, endpoints_of
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
    server = Asking(client) if client else None
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
    server = Asking(client)
    listing = server.ask("GET", "/openapi.json")
    listed = endpoints_of(listing)
    chat, notes = _decide(model, user_kind, cache_dir, server)
    finding = Finding(server, model, listed)
    finding.look("openapi", bool(listed), listing.evidence)
    base = f"base model ({chat.decided_by}: {chat.evidence})" if chat.kind == "base" else ""
    finding.look_at_endpoints(base)
    finding.look_at_the_rest()
    if not listed:
        why = f"no list of endpoints ({listing.evidence}): they were tried one by one"
        notes = (*notes, f"{why}; completions are taken for granted")
    missing = tuple(sorted(finding.missing.items()))
    return Capabilities(chat, listed, frozenset(finding.names), notes, missing)


def _decide(
    model: str, user_kind: str | None, cache_dir: Path | None, server: Asking | None
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
