"""How many tokens a completion has: limits, counts and finish reasons against each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.readers.common import must

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Request

__all__ = ["DEFAULT_MAX_TOKENS", "check_usage", "limit_of", "prompts_of"]

#: What OpenAI and vLLM take where a request does not say.
DEFAULT_MAX_TOKENS = 16

#: A prompt that leaves less room than max_tokens ends an answer early, too; no model that is
#: served has less room in all.
_LEAST_CONTEXT = 128


def prompts_of(request: Request) -> list[Any]:
    """The prompts of a request: a string or a list of token ids is one."""
    prompt = request.get("prompt", "")
    single = isinstance(prompt, str) or not prompt or isinstance(prompt[0], int)
    return [prompt] if single else list(prompt)


def limit_of(request: Request) -> int:
    """The `max_tokens` of a request."""
    return int(request.get("max_tokens", DEFAULT_MAX_TOKENS))


def check_usage(body: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """Token counts agree with limits, finish reasons, logprobs and ids. Raises CheckFailed."""
    _check_prompt_count(body, request, dialect)
    usage, choices, limit = body["usage"], body["choices"], limit_of(request)
    completion = usage["completion_tokens"]
    if limit == 0:
        return  # vLLM counts one that it does not show; a test of its own says so
    must(
        len(choices) <= completion <= limit * len(choices),
        f"usage.completion_tokens must agree with max_tokens={limit}: "
        f"1 to {limit} for each of {len(choices)}",
        seen=completion,
    )
    counts = [generated(choice, body, request) for choice in choices]
    for choice, count in zip(choices, counts, strict=True):
        if count is not None:
            _check_count(choice, count, body, request)
    if None not in counts:
        total = sum(count or 0 for count in counts)
        must(
            total == completion,
            "usage.completion_tokens must be the number of tokens that came",
            expected=total,
            seen=completion,
        )


def _check_count(
    choice: Mapping[str, Any], count: int, body: Mapping[str, Any], request: Request
) -> None:
    """`length` means exactly max_tokens, unless the context was full; min_tokens are there."""
    limit, where = limit_of(request), f"choices[{choice['index']}]"
    room = body["usage"]["total_tokens"] < _LEAST_CONTEXT
    least = min(request.get("min_tokens", 0), limit)
    must(count <= limit, f"{where} must have at most max_tokens={limit} tokens", seen=count)
    if room and choice["finish_reason"] == "length":
        must(
            count == limit,
            f"{where} must have max_tokens={limit} tokens where finish_reason is length",
            seen=count,
        )
    must(
        not room or count >= least,
        f"{where} must have at least min_tokens={least} tokens",
        seen=count,
    )


def generated(choice: Mapping[str, Any], body: Mapping[str, Any], request: Request) -> int | None:
    """How many tokens of a choice were generated, if the answer says so anywhere."""
    usage, alone = body["usage"], len(body["choices"]) == 1
    if isinstance(choice.get("token_ids"), list):
        return len(choice["token_ids"])
    if choice.get("logprobs"):
        count = len(choice["logprobs"]["tokens"])
        if not request.get("echo"):
            return count
        return count - int(usage["prompt_tokens"]) if alone else None
    return int(usage["completion_tokens"]) if alone else None


def _check_prompt_count(body: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """The prompt's tokens are counted once, however many answers it has."""
    seen, prompts, n = body["usage"]["prompt_tokens"], prompts_of(request), request.get("n", 1)
    kept = request.get("truncate_prompt_tokens")
    if kept and kept > 0:
        must(
            seen <= kept * len(prompts),
            f"usage.prompt_tokens must be at most truncate_prompt_tokens={kept}",
            seen=seen,
        )
        return
    given = [choice.get("prompt_token_ids") for choice in body["choices"]][::n]
    lists = prompts if all(isinstance(prompt, list) for prompt in prompts) else given
    if not all(isinstance(ids, list) for ids in lists):
        return
    count = sum(len(ids) for ids in lists)
    must(
        seen == count or (seen == count * n and not dialect.is_vllm),
        "usage.prompt_tokens must be the number of token ids in the prompt",
        expected=count,
        seen=seen,
    )
