"""vLLM's own fields of a completion: `token_ids`, `prompt_token_ids`, `prompt_logprobs`. Pure.

Source: vLLM, OpenAI-compatible server (extra parameters of completions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.readers.common import is_logprob, is_streamed_request, must
from pytest_vllm.client.readers.completion_usage import prompts_of
from pytest_vllm.client.shapes import COUNT, STRING, Kind, Shape, conform, is_integer, nullable

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request

__all__ = ["check_ids", "check_prompt_logprobs"]

_RANK = Kind("an integer, 1 or more", lambda seen: is_integer(seen) and seen >= 1)
_IDS: dict[str, Shape] = {"token_ids": [COUNT], "prompt_token_ids": [COUNT]}
_CANDIDATE: dict[str, Shape] = {
    "logprob": Kind("a logprob (0 or less)", is_logprob),
    "rank": _RANK,
    "decoded_token": nullable(STRING),
}


def check_ids(choice: Mapping[str, Any], where: str, request: Request, dialect: Dialect) -> None:
    """Ids where they were asked for, and those of the prompt are the prompt's.

    Raises CheckFailed.
    """
    ids, prompt_ids = choice.get("token_ids"), choice.get("prompt_token_ids")
    if not dialect.is_vllm:
        return
    if not request.get("return_token_ids"):
        must(ids is None, f"{where}.token_ids must not be there unasked", seen=ids)
        rule = f"{where}.prompt_token_ids must not be there unasked"
        must(prompt_ids is None, rule, seen=prompt_ids)
        return
    conform({"token_ids": ids, "prompt_token_ids": prompt_ids}, _IDS, where)
    prompt = prompts_of(request)[choice["index"] // request.get("n", 1)]
    if isinstance(prompt, list) and not request.get("truncate_prompt_tokens"):
        must(
            prompt_ids == prompt,
            f"{where}.prompt_token_ids must be the prompt",
            expected=prompt,
            seen=prompt_ids,
        )
    _check_names(choice, where, request)


def _check_names(choice: Mapping[str, Any], where: str, request: Request) -> None:
    """`token_id:N` (return_tokens_as_token_ids) names the tokens of `token_ids`."""
    logprobs = choice.get("logprobs")
    if not logprobs or not request.get("return_tokens_as_token_ids"):
        return
    echoed = choice["prompt_token_ids"] if request.get("echo") else []
    generated = [] if request.get("max_tokens") == 0 else choice["token_ids"]
    expected = [f"token_id:{i}" for i in [*echoed, *generated]]
    must(
        logprobs["tokens"] == expected,
        f"{where}.logprobs.tokens must be the token ids (return_tokens_as_token_ids)",
        expected=expected,
        seen=logprobs["tokens"],
    )


def check_prompt_logprobs(
    choice: Mapping[str, Any], where: str, request: Request, dialect: Dialect
) -> None:
    """One entry per token of the prompt, the first null; there only if asked for.

    Raises CheckFailed.
    """
    if not dialect.is_vllm or is_streamed_request(request):
        return
    found: Any = choice.get("prompt_logprobs")
    asked = request.get("prompt_logprobs")
    where = f"{where}.prompt_logprobs"
    if asked is None and request.get("echo"):
        asked = request.get("logprobs")  # vLLM needs them for the echo, and shows them
    if asked is None:
        must(found is None, f"{where} must be null where they were not asked for", seen=found)
        return
    must(isinstance(found, list), f"{where} must be a list", seen=found)
    must(found[:1] == [None], f"{where}[0] must be null (nothing before it)", seen=found[:1])
    prompt = prompts_of(request)[choice["index"] // request.get("n", 1)]
    ids = choice.get("prompt_token_ids")
    if ids is None and isinstance(prompt, list) and not request.get("truncate_prompt_tokens"):
        ids = prompt
    must(
        ids is None or len(found) == len(ids),
        f"{where} must have one entry for each token of the prompt",
        expected=len(ids or ()),
        seen=len(found),
    )
    for at, entry in enumerate(found[1:], 1):
        _check_entry(entry, f"{where}[{at}]", asked, None if ids is None else ids[at])


def _check_entry(entry: Any, where: str, asked: int, token: int | None) -> None:
    """One token of the prompt: the best, the token itself, and their ranks."""
    must(isinstance(entry, Mapping), f"{where} must be an object", seen=entry)
    for key, candidate in entry.items():
        must(key.isdigit(), f"{where} must have token ids as keys", seen=key)
        conform(candidate, _CANDIDATE, f"{where}[{key}]")
    must(
        asked < 0 or max(asked, 1) <= len(entry) <= asked + 1,
        f"{where} must have the {asked} best and the prompt's own token",
        seen=entry,
    )
    must(
        token is None or str(token) in entry,
        f"{where} must have the prompt's own token",
        expected=token,
        seen=entry,
    )
    ranked = sorted(entry.values(), key=lambda candidate: candidate["rank"])
    best = [candidate["logprob"] for candidate in ranked]
    must(
        all(a >= b - 1e-6 for a, b in pairwise(best)),
        f"{where} must rank the more likely token higher",
        seen=entry,
    )
    total = math.fsum(math.exp(logprob) for logprob in best)
    must(total <= 1.001, f"{where} must add up to a probability of 1 at most", seen=total)
    # Equal logits, which are common in bfloat16, share the larger rank.
    must(
        asked <= 0 or ranked[0]["rank"] <= 3,
        f"{where} must have the most likely token",
        seen=entry,
    )
