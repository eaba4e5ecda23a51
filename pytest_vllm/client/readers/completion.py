"""POST /v1/completions, read strictly against its request.

Sources: OpenAI API reference (completions); vLLM, `entrypoints/openai/completion/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.failure import CheckFailed
from pytest_vllm.client.readers.common import (
    check_created,
    check_finish,
    check_id,
    check_indices,
    check_json_type,
    check_model,
    check_total,
    is_streamed,
    must,
)
from pytest_vllm.client.shapes import COUNT, NUMBER, STRING, Shape, conform, nullable

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["prompts_of", "read"]

#: What OpenAI and vLLM take where a request does not say.
DEFAULT_MAX_TOKENS = 16

_LOGPROBS: dict[str, Shape] = {
    "tokens": [STRING],
    "token_logprobs": [nullable(NUMBER)],
    "text_offset": [COUNT],
}


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    shape = {k: v for k, v in shapes.COMPLETION.items() if k != "usage" or not is_streamed(answer)}
    conform(body, shape)
    check_id(body["id"], "cmpl-", dialect)
    check_created(body["created"], answer)
    check_model(body["model"], request)
    check_indices(body["choices"], len(prompts_of(request)) * request.get("n", 1))
    for choice in body["choices"]:
        where = f"choices[{choice['index']}]"
        _check_text(choice, where, request)
        check_finish(choice, request, dialect)
        _check_logprobs(choice, where, request)
        _check_ids(choice, where, request)
    if body.get("usage"):
        conform(body["usage"], shapes.USAGE, "usage")
        check_total(body["usage"])
        _check_usage(body, request)


def prompts_of(request: Request) -> list[Any]:
    """The prompts of a request: a string or a list of token ids is one."""
    prompt = request.get("prompt", "")
    single = isinstance(prompt, str) or not prompt or isinstance(prompt[0], int)
    return [prompt] if single else list(prompt)


def _check_text(choice: Mapping[str, Any], where: str, request: Request) -> None:
    """Echo where asked for, and no stop string in what was generated."""
    text = choice["text"]
    prompts = prompts_of(request)
    prompt = prompts[choice["index"] // request.get("n", 1)]
    if request.get("echo") and isinstance(prompt, str) and not request.get("return_token_ids"):
        must(
            text.startswith(prompt),
            f"{where}.text must begin with the prompt (echo)",
            expected=prompt,
            seen=text,
        )
        text = text.removeprefix(prompt)
    stops = request.get("stop", [])
    stops = [stops] if isinstance(stops, str) else stops
    if request.get("min_tokens"):
        return  # until then stop strings do not count
    for stop in stops:
        kept = request.get("include_stop_str_in_output") and text.endswith(stop)
        generated = text[: -len(stop)] if kept else text
        must(
            stop not in generated,
            f"{where}.text must end before the stop string",
            expected=f"no {stop!r}",
            seen=text,
        )
    if request.get("max_tokens", DEFAULT_MAX_TOKENS) == 0:
        must(text == "", f"{where}.text must have nothing generated (max_tokens=0)", seen=text)


def _check_logprobs(choice: Mapping[str, Any], where: str, request: Request) -> None:
    """There if and only if they were asked for; one entry per token; numbers that can be."""
    logprobs, asked = choice.get("logprobs"), request.get("logprobs")
    where = f"{where}.logprobs"
    if asked is None:
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
    offsets = logprobs["text_offset"]
    must(
        all(a <= b for a, b in pairwise(offsets)),
        f"{where}.text_offset must not fall",
        seen=offsets,
    )
    for at in range(count):
        first_of_prompt = at == 0 and bool(request.get("echo"))
        _check_position(logprobs, at, where, request, may_be_null=first_of_prompt)


def _check_position(
    logprobs: Mapping[str, Any], at: int, where: str, request: Request, *, may_be_null: bool
) -> None:
    """One token: its logprob is one, and it stands among its own candidates."""
    own, top, token = (
        logprobs["token_logprobs"][at],
        logprobs["top_logprobs"][at],
        logprobs["tokens"][at],
    )
    if own is None and may_be_null:
        return
    if not _is_logprob(own):
        raise CheckFailed(f"{where}.token_logprobs[{at}] must be a logprob (0 or less)", seen=own)
    must(isinstance(top, Mapping), f"{where}.top_logprobs[{at}] must be an object", seen=top)
    for text, value in top.items():
        must(
            _is_logprob(value),
            f"{where}.top_logprobs[{at}] must be logprobs (0 or less)",
            seen={text: value},
        )
    asked = request.get("logprobs")
    must(
        1 <= len(top) <= max(asked, 0) + 1,
        f"{where}.top_logprobs[{at}] must have the {asked} best and the chosen token, no more",
        seen=top,
    )
    # Tokens that are part of a character all have the text "", and so one entry.
    must(
        token in top,
        f"{where}.top_logprobs[{at}] must have the chosen token",
        expected=token,
        seen=top,
    )
    if token:
        must(
            abs(top[token] - own) < 1e-6 or _ambiguous(logprobs, at),
            f"{where}.top_logprobs[{at}] must give the chosen token its own logprob",
            expected=own,
            seen=top[token],
        )


def _ambiguous(logprobs: Mapping[str, Any], at: int) -> bool:
    """Whether several tokens may hide behind one text: only U+FFFD can be that."""
    return "\ufffd" in logprobs["tokens"][at]


def _is_logprob(value: Any) -> bool:
    """0 or less; vLLM clamps minus infinity to -9999."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and -10000 <= value <= 1e-6


def _check_ids(choice: Mapping[str, Any], where: str, request: Request) -> None:
    """`return_token_ids` (vLLM): ids where asked for, and those of the prompt are the prompt's."""
    ids, prompt_ids = choice.get("token_ids"), choice.get("prompt_token_ids")
    if not request.get("return_token_ids"):
        return
    for name, found in (("token_ids", ids), ("prompt_token_ids", prompt_ids)):
        good = isinstance(found, list) and all(isinstance(i, int) and i >= 0 for i in found)
        must(good, f"{where}.{name} must be a list of token ids (return_token_ids)", seen=found)
    prompt = prompts_of(request)[choice["index"] // request.get("n", 1)]
    if isinstance(prompt, list) and not request.get("truncate_prompt_tokens"):
        must(
            prompt_ids == prompt,
            f"{where}.prompt_token_ids must be the prompt",
            expected=prompt,
            seen=prompt_ids,
        )


def _check_usage(body: Mapping[str, Any], request: Request) -> None:
    """Token counts agree with limits, finish reasons, logprobs and ids."""
    usage, choices, prompts = body["usage"], body["choices"], prompts_of(request)
    limit = request.get("max_tokens", DEFAULT_MAX_TOKENS)
    completion, n = usage["completion_tokens"], request.get("n", 1)
    must(
        completion <= limit * len(choices),
        f"usage.completion_tokens must agree with max_tokens={limit}",
        seen=completion,
    )
    if len(choices) == 1 and choices[0]["finish_reason"] == "length":
        # A prompt that leaves less room than max_tokens is the one other reason.
        full = completion == limit or usage["total_tokens"] >= 128
        must(
            full,
            f"usage.completion_tokens must agree with max_tokens={limit} and finish_reason=length",
            seen=completion,
        )
    must(
        completion >= len(choices) or limit == 0,
        "usage.completion_tokens must count at least one token per choice",
        seen=completion,
    )
    counts = [_generated(choice) for choice in choices]
    if None not in counts and not request.get("echo"):
        must(
            sum(c or 0 for c in counts) == completion,
            "usage.completion_tokens must be the number of tokens that came",
            expected=sum(c or 0 for c in counts),
            seen=completion,
        )
    if all(isinstance(p, list) for p in prompts) and not request.get("truncate_prompt_tokens"):
        ids = sum(len(p) for p in prompts)
        must(
            usage["prompt_tokens"] in (ids, ids * n),
            "usage.prompt_tokens must be the number of token ids in the prompt",
            expected=ids,
            seen=usage["prompt_tokens"],
        )


def _generated(choice: Mapping[str, Any]) -> int | None:
    """How many tokens of a choice came with the answer, if it says so anywhere."""
    if isinstance(choice.get("token_ids"), list):
        return len(choice["token_ids"])
    logprobs = choice.get("logprobs")
    return len(logprobs["tokens"]) if logprobs else None
