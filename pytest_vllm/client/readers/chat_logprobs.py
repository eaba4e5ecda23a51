"""The logprobs of a chat choice, and those of its prompt, read against the request. Pure.

Sources: OpenAI API reference (chat, `logprobs.content`); vLLM's `prompt_logprobs`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.readers.common import must
from pytest_vllm.client.shapes import STRING, Kind, Shape, conform, is_integer, is_number, optional

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Request

__all__ = ["read", "read_prompt"]

LOGPROB = Kind("a logprob (0 or less)", lambda seen: is_number(seen) and -10000 <= seen <= 1e-6)
BYTES = Kind(
    "a list of bytes",
    lambda seen: isinstance(seen, list) and all(is_integer(b) and 0 <= b < 256 for b in seen),
)
_CANDIDATE: dict[str, Shape] = {"token": STRING, "logprob": LOGPROB, "bytes": optional(BYTES)}

#: What makes the chosen token another than the most probable one.
_STEERING = (
    *("logit_bias", "frequency_penalty", "presence_penalty", "repetition_penalty", "bad_words"),
    *("allowed_token_ids", "min_tokens", "ignore_eos", "response_format", "structured_outputs"),
    *("tools", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
)

#: Special tokens: in the logprobs, but not in the text.
_SPECIAL = re.compile(r"<.*>|\[.*\]|", re.DOTALL)
_SLACK = 1e-4


def read(choice: Mapping[str, Any], request: Request) -> None:
    """Check `logprobs` of one choice: there if and only if asked for. Raises CheckFailed."""
    logprobs: Any = choice.get("logprobs")
    where = f"choices[{choice['index']}].logprobs"
    if not request.get("logprobs"):
        must(logprobs is None, f"{where} must be null where they were not asked for", seen=logprobs)
        return
    conform(logprobs, {"content": [{**_CANDIDATE, "top_logprobs": [_CANDIDATE]}]}, where)
    for at, entry in enumerate(logprobs["content"]):
        inner = f"{where}.content[{at}]"
        for candidate in (entry, *entry["top_logprobs"]):
            _check_bytes(candidate, inner)
        _check_top(entry, inner, request)
    _check_text(choice, logprobs["content"], where, request)


def _check_bytes(candidate: Mapping[str, Any], where: str) -> None:
    """`bytes` are those of the token; vLLM leaves both empty for a part of a character."""
    token, raw = candidate["token"], candidate.get("bytes")
    if raw is None or token.startswith("token_id:"):
        return
    # A token that is a part of a character is U+FFFD as text.
    must(
        bytes(raw).decode(errors="replace") == token,
        f"{where}.bytes must be those of its token",
        expected=list(token.encode()),
        seen=raw,
    )


def _check_top(entry: Mapping[str, Any], where: str, request: Request) -> None:
    """The best candidates: as many as asked for, best first, with the chosen one in its place."""
    top, asked = entry["top_logprobs"], request.get("top_logprobs", 0)
    values = [candidate["logprob"] for candidate in top]
    if asked >= 0:
        must(
            len(top) == asked,
            f"{where}.top_logprobs must have {asked} candidates",
            expected=asked,
            seen=len(top),
        )
    # vLLM puts the chosen token first, whatever its rank.
    chosen_first = bool(top) and top[0]["token"] == entry["token"]
    must(
        all(a >= b - _SLACK for a, b in pairwise(values[1:] if chosen_first else values)),
        f"{where}.top_logprobs must begin with the most probable token",
        seen=values,
    )
    must(
        math.fsum(math.exp(value) for value in values) <= 1.001,
        f"{where}.top_logprobs must be probabilities: together at most 1",
        seen=values,
    )
    if top:
        _check_chosen(entry, values, where, request)


def _check_chosen(
    entry: Mapping[str, Any], values: Sequence[float], where: str, request: Request
) -> None:
    own = [c["logprob"] for c in entry["top_logprobs"] if c["token"] == entry["token"]]
    must(
        not own or any(abs(value - entry["logprob"]) <= _SLACK for value in own) or _vague(entry),
        f"{where}.top_logprobs must give the chosen token its own logprob",
        expected=entry["logprob"],
        seen=own,
    )
    must(
        own or entry["logprob"] <= min(values) + _SLACK,
        f"{where}.top_logprobs must have the chosen token where it is among the best",
        expected=entry["token"],
        seen=[c["token"] for c in entry["top_logprobs"]],
    )
    greedy = request.get("temperature") == 0 and not any(request.get(s) for s in _STEERING)
    must(
        not greedy or entry["logprob"] >= max(values) - _SLACK,
        f"{where} must be the most probable token (temperature=0)",
        expected=entry["top_logprobs"][0],
        seen={"token": entry["token"], "logprob": entry["logprob"]},
    )


def _vague(entry: Mapping[str, Any]) -> bool:
    """Whether several tokens hide behind this text: only parts of characters can be that."""
    return entry["token"] == "" or "\ufffd" in entry["token"]


def _check_text(
    choice: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], where: str, request: Request
) -> None:
    """The tokens, one after another, are the text; but for special tokens and what a stop cut."""
    message, content = choice["message"], choice["message"]["content"] or ""
    elsewhere = ("tool_calls", "function_call", "reasoning", "reasoning_content")
    if any(message.get(name) for name in elsewhere) or request.get("tools"):
        return
    if request.get("echo") or request.get("return_tokens_as_token_ids"):
        return
    must(
        entries or not content,
        f"{where}.content must have an entry for each token of the text",
        seen=[],
    )
    if any(_vague(entry) for entry in entries) or "\ufffd" in content:
        return
    tokens = [entry["token"] for entry in entries]
    spoken = "".join(token for token in tokens if not _SPECIAL.fullmatch(token))
    cut = choice["finish_reason"] == "stop"
    fits = any(
        _same(content, text, cut=cut) for text in (spoken, "".join(tokens), "".join(tokens[:-1]))
    )
    must(
        fits,
        f"{where}: the tokens must add up to the content",
        expected="".join(tokens),
        seen=content,
    )


def _same(content: str, text: str, *, cut: bool) -> bool:
    # Tokenizers with a word-boundary mark drop the space of the first word.
    if cut and (text.startswith(content) or text.lstrip(" ").startswith(content)):
        return True
    return content in (text, text.lstrip(" "))


def read_prompt(body: Mapping[str, Any], request: Request) -> None:
    """Check `prompt_logprobs` (vLLM): one entry for each token of the prompt, if asked for.

    Raises CheckFailed.
    """
    found, asked = body.get("prompt_logprobs"), request.get("prompt_logprobs")
    if asked is None:
        echoed = request.get("echo")  # vLLM adds them, unasked
        must(echoed or found is None, "prompt_logprobs must be null if not asked for", seen=found)
        return
    must(
        isinstance(found, list) and found and found[0] is None,
        "prompt_logprobs must be a list, null for the first token of the prompt",
        seen=found,
    )
    must(
        len(found or []) == body["usage"]["prompt_tokens"],
        "prompt_logprobs must have one entry for each token of the prompt",
        expected=body["usage"]["prompt_tokens"],
        seen=len(found or []),
    )
    ids = body.get("prompt_token_ids")
    for at, entry in enumerate((found or [])[1:], 1):
        _check_prompt_entry(entry, f"prompt_logprobs[{at}]", asked)
        must(
            ids is None or str(ids[at]) in entry,
            f"prompt_logprobs[{at}] must have the token that stands there",
            expected=str((ids or [None] * (at + 1))[at]),
            seen=sorted(entry),
        )


def _check_prompt_entry(entry: Any, where: str, asked: int) -> None:
    must(isinstance(entry, dict) and entry, f"{where} must name its candidates", seen=entry)
    must(
        asked < 0 or len(entry) <= asked + 1,
        f"{where} must have at most {asked} candidates and the token itself",
        seen=sorted(entry),
    )
    for token, candidate in entry.items():
        must(token.isdigit(), f"{where} must be keyed by token ids", seen=token)
        conform(candidate, {"logprob": LOGPROB}, f"{where}[{token}]")
