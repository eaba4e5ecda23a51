"""POST /v1/chat/completions, read strictly against its request.

Sources: OpenAI API reference (chat); vLLM, `entrypoints/openai/chat_completion/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers import chat_logprobs, tool_calls
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
from pytest_vllm.client.shapes import conform, is_integer

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["limit_of", "read", "stops_of"]

#: No context is smaller; an answer of fewer tokens in all was not cut for lack of room.
_SMALLEST_CONTEXT = 128

#: A `max_tokens` up to here is refused, rather than cut, where the context has no room for it.
_SMALL_LIMIT = 64


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    shape = {
        k: v for k, v in shapes.CHAT_COMPLETION.items() if k != "usage" or not is_streamed(answer)
    }
    conform(body, shape)
    check_id(body["id"], "chatcmpl-", dialect)
    check_created(body["created"], answer)
    check_model(body["model"], request)
    check_indices(body["choices"], request.get("n", 1))
    for choice in body["choices"]:
        _check_message(choice, request, dialect)
        check_finish(choice, request, dialect)
        chat_logprobs.read(choice, request)
        _check_count(choice, request)
        _check_ids(choice.get("token_ids"), f"choices[{choice['index']}].token_ids", request)
    _check_ids(body.get("prompt_token_ids"), "prompt_token_ids", request)
    chat_logprobs.read_prompt(body, request)
    if body.get("usage"):
        conform(body["usage"], shapes.USAGE, "usage")
        check_total(body["usage"])
        _check_usage(body, request)


def limit_of(request: Request) -> int | None:
    """How many tokens a choice may have; the newer name wins."""
    limit: int | None = request.get("max_completion_tokens", request.get("max_tokens"))
    return limit


def stops_of(request: Request) -> list[str]:
    """The stop strings of a request."""
    stops = request.get("stop", [])
    return [stops] if isinstance(stops, str) else list(stops)


def _check_message(choice: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """A message of the assistant, with something in it, without stop strings."""
    message, where = choice["message"], f"choices[{choice['index']}]"
    for alien in ("text", "delta"):
        must(alien not in choice, f"{where} must not have {alien}: it is a chat", seen=choice)
    refusal = message.get("refusal")
    must(
        refusal is None or isinstance(refusal, str),
        f"{where}.message.refusal must be a string, or null",
        seen=refusal,
    )
    other = ("tool_calls", "function_call", "refusal", "reasoning", "reasoning_content")
    # Without it, a message that was all thought has nothing left to say.
    hidden = (request.body or {}).get("include_reasoning") is False
    must(
        message["content"] is not None or hidden or any(message.get(name) for name in other),
        f"{where}.message.content must be a string where nothing else was said",
        seen=message,
    )
    tool_calls.read(message, choice["finish_reason"], request, dialect)
    _check_stops(message["content"] or "", choice, where, request)


def _check_stops(text: str, choice: Mapping[str, Any], where: str, request: Request) -> None:
    stops, met = stops_of(request), choice.get("stop_reason")
    kept = bool(request.get("include_stop_str_in_output"))
    if kept and met in stops:
        must(
            text.endswith(met),
            f"{where}.message.content must end with the stop string (include_stop_str_in_output)",
            expected=met,
            seen=text,
        )
    if request.get("min_tokens") or request.get("echo"):
        return  # stop strings do not count until then, nor in what is not generated
    for stop in stops:
        must(
            stop not in (text.removesuffix(stop) if kept else text),
            f"{where}.message.content must end before the stop string",
            expected=f"no {stop!r}",
            seen=text,
        )


def _check_ids(found: Any, where: str, request: Request) -> None:
    """`return_token_ids` (vLLM): lists of ids if and only if asked for."""
    if request.get("return_token_ids"):
        good = isinstance(found, list) and all(is_integer(i) and i >= 0 for i in found)
        must(good, f"{where} must be a list of token ids (return_token_ids)", seen=found)
    else:
        must(found is None, f"{where} must be null where it was not asked for", seen=found)


def _check_count(choice: Mapping[str, Any], request: Request) -> None:
    """Ids and logprobs are of the same tokens, and those are as many as max_tokens let come."""
    if request.get("tools") or choice["message"].get("reasoning"):
        return  # their parsers hold tokens back
    ids, logprobs = choice.get("token_ids"), choice.get("logprobs")
    where, limit = f"choices[{choice['index']}]", limit_of(request)
    must(
        ids is None or logprobs is None or len(ids) == len(logprobs["content"]),
        f"{where} must have as many token_ids as logprobs",
        expected=len(logprobs["content"]) if logprobs else None,
        seen=len(ids or []),
    )
    count = _generated(choice)
    if count is not None and limit is not None and limit <= _SMALL_LIMIT:
        cut = choice["finish_reason"] == "length"
        must(
            count == limit if cut else count <= limit,
            f"{where} must have {limit} tokens where max_tokens ends it, and never more",
            expected=limit,
            seen=count,
        )


def _check_usage(body: Mapping[str, Any], request: Request) -> None:
    """Token counts agree with limits, finish reasons, logprobs and ids."""
    usage, choices = body["usage"], body["choices"]
    completion, limit = usage["completion_tokens"], limit_of(request)
    must(
        completion >= len(choices),
        "usage.completion_tokens must count at least one token per choice",
        seen=completion,
    )
    if limit is not None:
        _check_limit(usage, choices, limit)
    prompt_ids = body.get("prompt_token_ids")
    must(
        prompt_ids is None or usage["prompt_tokens"] == len(prompt_ids),
        "usage.prompt_tokens must be the number of prompt_token_ids",
        expected=len(prompt_ids or []),
        seen=usage["prompt_tokens"],
    )
    counts = [_generated(choice) for choice in choices]
    # Parsers of tools and reasoning hold tokens back, and a stream drops what it says of them.
    if None not in counts and not (request.get("stream") and request.get("tools")):
        must(
            sum(c or 0 for c in counts) == completion,
            "usage.completion_tokens must be the number of tokens that came",
            expected=sum(c or 0 for c in counts),
            seen=completion,
        )


def _check_limit(usage: Mapping[str, int], choices: list[dict[str, Any]], limit: int) -> None:
    completion = usage["completion_tokens"]
    must(
        completion <= limit * len(choices),
        f"usage.completion_tokens must agree with max_tokens={limit}",
        seen=completion,
    )
    cut = [choice for choice in choices if choice["finish_reason"] == "length"]
    # A prompt that leaves less room than max_tokens is the one other reason.
    must(
        completion >= limit * len(cut) + len(choices) - len(cut)
        or usage["total_tokens"] >= _SMALLEST_CONTEXT,
        f"usage.completion_tokens must agree with max_tokens={limit} and finish_reason=length",
        seen=completion,
    )


def _generated(choice: Mapping[str, Any]) -> int | None:
    """How many tokens of a choice came with the answer, if it says so anywhere."""
    if isinstance(choice.get("token_ids"), list):
        return len(choice["token_ids"])
    logprobs = choice.get("logprobs")
    said = any(choice["message"].get(name) for name in ("reasoning", "reasoning_content"))
    return len(logprobs["content"]) if logprobs and not said else None
