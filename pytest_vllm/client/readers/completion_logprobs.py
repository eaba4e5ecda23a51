"""The `logprobs` of a completion: four lists, one entry per token. Pure.

Source: OpenAI API reference (completions, `logprobs`): the chosen token, and the `logprobs` most
likely ones; so there may be one more than asked for. `top_logprobs` is keyed by text, so
candidates of the same text are one entry.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import is_logprob, must, stops_of
from pytest_vllm.client.shapes import COUNT, NUMBER, STRING, Shape, conform, nullable

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request

__all__ = ["check_logprobs"]

_LOGPROBS: dict[str, Shape] = {
    "tokens": [STRING],
    "token_logprobs": [nullable(NUMBER)],
    "text_offset": [COUNT],
}

#: Tokens that may be listed but are not part of the text.
_SPECIAL = re.compile(r"<[^<>]*>|\[[A-Z_0-9]+\]|<｜.*｜>")

#: What moves the choice of a greedy request away from the most likely token.
_MOVING = (
    "logit_bias",
    "allowed_token_ids",
    "bad_words",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "min_tokens",
    "structured_outputs",
    "response_format",
    "use_beam_search",
)


def check_logprobs(
    choice: Mapping[str, Any], where: str, request: Request, dialect: Dialect
) -> None:
    """There if and only if they were asked for; one entry per token; numbers that can be.

    Raises CheckFailed.
    """
    logprobs: Any = choice.get("logprobs")
    where = f"{where}.logprobs"
    if request.get("logprobs") is None:
        must(logprobs is None, f"{where} must be null where they were not asked for", seen=logprobs)
        return
    conform(logprobs, _LOGPROBS, where)
    count = len(logprobs["tokens"])
    for name in ("token_logprobs", "text_offset", "top_logprobs"):
        entries = logprobs.get(name)
        must(
            isinstance(entries, list) and len(entries) == count,
            f"{where}.{name} must have one entry for each of the tokens",
            expected=count,
            seen=len(entries) if isinstance(entries, list) else entries,
        )
    for at in range(count):
        _check_position(logprobs, at, where, request)
    _check_candidates(logprobs, where, request)
    _check_offsets(logprobs, where, dialect)
    if not request.get("return_tokens_as_token_ids"):
        _check_tokens(logprobs["tokens"], choice, where, request)


def _check_position(logprobs: Mapping[str, Any], at: int, where: str, request: Request) -> None:
    """One token: its logprob is one, and it stands among its own candidates."""
    own, top = logprobs["token_logprobs"][at], logprobs["top_logprobs"][at]
    token = logprobs["tokens"][at]
    if at == 0 and request.get("echo") and own is None:
        must(not top, f"{where}.top_logprobs[0] must be null (nothing before it)", seen=top)
        return
    if not is_logprob(own):
        raise CheckFailed(f"{where}.token_logprobs[{at}] must be a logprob (0 or less)", seen=own)
    must(isinstance(top, Mapping), f"{where}.top_logprobs[{at}] must be an object", seen=top)
    for text, value in top.items():
        must(
            is_logprob(value),
            f"{where}.top_logprobs[{at}] must be logprobs (0 or less)",
            seen={text: value},
        )
    total = math.fsum(math.exp(value) for value in top.values())
    must(
        total <= 1.001,
        f"{where}.top_logprobs[{at}] must be probabilities, which add up to 1 at most",
        seen=round(total, 4),
    )
    # Tokens that are part of a character all have the text "", and so one entry.
    must(
        token in top,
        f"{where}.top_logprobs[{at}] must have the chosen token",
        expected=token,
        seen=top,
    )
    if token and "\ufffd" not in token:
        must(
            abs(top[token] - own) < 1e-6,
            f"{where}.top_logprobs[{at}] must give the chosen token its own logprob",
            expected=own,
            seen=top[token],
        )


def _check_candidates(logprobs: Mapping[str, Any], where: str, request: Request) -> None:
    """As many as were asked for, and the greedy choice is the best of them."""
    asked = request.get("logprobs")
    if request.get("logprob_token_ids") or asked < 0:
        return
    greedy = request.get("temperature") == 0 and not any(request.get(name) for name in _MOVING)
    sizes = [len(top) for top in logprobs["top_logprobs"] if top is not None]
    plain = [top for top in logprobs["top_logprobs"] if top and not _hides(top)]
    must(
        all(1 <= size <= asked + 1 for size in sizes),
        f"{where}.top_logprobs must have the {asked} best and the chosen token, no more",
        seen=sizes,
    )
    must(
        len(plain) < 3 or max(len(top) for top in plain) >= asked,
        f"{where}.top_logprobs must have as many candidates as were asked for",
        expected=asked,
        seen=sizes,
    )
    if not greedy or asked == 0 or request.get("echo"):
        return
    for at, (own, top) in enumerate(
        zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True)
    ):
        must(
            max(top.values()) - own < 1e-6,
            f"{where}.token_logprobs[{at}] must be the best of its candidates (temperature=0)",
            expected=max(top.values()),
            seen=own,
        )
        # Of equals the sampler may choose one and the list of the best name the other.
        best = sorted(top.values(), reverse=True)[: asked + 1]
        must(
            len(top) <= asked or best[-2] - best[-1] < 1e-6,
            f"{where}.top_logprobs[{at}] must have the {asked} best, no more (temperature=0)",
            seen=top,
        )


def _hides(top: Mapping[str, Any]) -> bool:
    """Whether several candidates may stand behind one text: parts of characters."""
    return any(text == "" or "\ufffd" in text for text in top)


def _check_offsets(logprobs: Mapping[str, Any], where: str, dialect: Dialect) -> None:
    """`text_offset` counts the characters of the tokens before."""
    offsets, tokens = logprobs["text_offset"], logprobs["tokens"]
    if not tokens:
        return
    # OpenAI itself begins after the prompt, even where that is not echoed.
    begin = 0 if dialect.is_vllm else offsets[0]
    expected = [begin + sum(len(token) for token in tokens[:at]) for at in range(len(tokens))]
    must(
        offsets == expected if dialect.is_vllm else offsets == sorted(offsets),
        f"{where}.text_offset must be where each token begins",
        expected=expected,
        seen=offsets,
    )


def _check_tokens(
    tokens: Sequence[str], choice: Mapping[str, Any], where: str, request: Request
) -> None:
    """The tokens, one after another, are the text; special ones and a stop are cut from it."""
    text = choice["text"]
    if any("\ufffd" in token for token in tokens) or "\ufffd" in text:
        return
    if request.get("echo") and request.get("return_token_ids"):
        return
    at = 0
    for token in tokens:
        if text.startswith(token, at):
            at += len(token)
        elif not _SPECIAL.fullmatch(token) and not (
            choice["finish_reason"] == "stop" and _is_cut(request)
        ):
            must(
                False,
                f"{where}.tokens must add up to the text",
                expected=text[at:],
                seen=token,
            )
    must(
        at == len(text) or (choice["finish_reason"] == "stop" and _is_cut(request)),
        f"{where}.tokens must add up to the text",
        expected=text,
        seen="".join(tokens),
    )


def _is_cut(request: Request) -> bool:
    """Whether a stop that was asked for may have cut tokens from the text."""
    return bool(stops_of(request) or request.get("stop_token_ids"))
