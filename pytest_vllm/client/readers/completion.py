"""POST /v1/completions, read strictly against its request.

Sources: OpenAI API reference (completions); vLLM, `entrypoints/openai/completion/protocol.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_vllm.client import openai_shapes as shapes
from pytest_vllm.client.readers.common import (
    check_created,
    check_details,
    check_finish,
    check_head,
    check_id,
    check_indices,
    check_json_type,
    check_model,
    check_total,
    is_streamed,
    must,
    stops_of,
)
from pytest_vllm.client.readers.completion_ids import check_ids, check_prompt_logprobs
from pytest_vllm.client.readers.completion_logprobs import check_logprobs
from pytest_vllm.client.readers.completion_usage import check_usage, limit_of, prompts_of
from pytest_vllm.client.shapes import conform

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = ["prompts_of", "read"]


def read(answer: Answer, dialect: Dialect) -> None:
    """Check everything that the request alone says of its answer. Raises CheckFailed."""
    request, body = answer.request, answer.json
    check_json_type(answer)
    shape = {k: v for k, v in shapes.COMPLETION.items() if k != "usage" or not is_streamed(answer)}
    conform(body, shape)
    check_head(body)
    check_id(body["id"], "cmpl-", dialect)
    check_created(body["created"], answer)
    check_model(body["model"], request)
    check_indices(body["choices"], len(prompts_of(request)) * request.get("n", 1))
    for choice in body["choices"]:
        _check_choice(choice, request, dialect)
    if body.get("usage"):
        conform(body["usage"], shapes.USAGE, "usage")
        check_total(body["usage"])
        check_details(body["usage"])
        check_usage(body, request, dialect)


def _check_choice(choice: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    where = f"choices[{choice['index']}]"
    if dialect.is_vllm:
        for name in ("logprobs", "stop_reason"):
            must(name in choice, f"{where} must have the field {name}", seen=sorted(choice))
    _check_text(choice, where, request)
    check_finish(choice, request, dialect)
    _check_stop(choice, where, request, dialect)
    check_logprobs(choice, where, request, dialect)
    check_ids(choice, where, request, dialect)
    check_prompt_logprobs(choice, where, request, dialect)


def _check_text(choice: Mapping[str, Any], where: str, request: Request) -> None:
    """Echo where asked for, and no stop string in what was generated."""
    text = choice["text"]
    prompts = prompts_of(request)
    prompt = prompts[choice["index"] // request.get("n", 1)]
    if request.get("echo") and isinstance(prompt, str) and not request.get("return_token_ids"):
        must(
            text.startswith(prompt) or request.get("truncate_prompt_tokens"),
            f"{where}.text must begin with the prompt (echo)",
            expected=prompt,
            seen=text,
        )
        text = text.removeprefix(prompt)
    elif request.get("echo"):
        return  # where the prompt ends cannot be told from the text
    if limit_of(request) == 0:
        must(text == "", f"{where}.text must have nothing generated (max_tokens=0)", seen=text)
    if request.get("min_tokens"):
        return  # until then stop strings do not count
    for stop in stops_of(request):
        kept = request.get("include_stop_str_in_output") and text.endswith(stop)
        generated = text[: -len(stop)] if kept else text
        must(
            stop not in generated,
            f"{where}.text must end before the stop string",
            expected=f"no {stop!r}",
            seen=text,
        )


def _check_stop(choice: Mapping[str, Any], where: str, request: Request, dialect: Dialect) -> None:
    """Why it ended, as far as vLLM says it: a cause that was asked for, and its traces."""
    reason, ids = choice.get("stop_reason"), choice.get("token_ids")
    if not dialect.is_vllm or choice["finish_reason"] != "stop":
        return
    constrained = request.get("structured_outputs") or request.get("response_format")
    if reason is None and request.get("ignore_eos") and not constrained:
        must(
            False,
            f"{where}.finish_reason must not be stop where ignore_eos is set and no stop was met",
            seen=choice["finish_reason"],
        )
    if isinstance(reason, str) and request.get("include_stop_str_in_output"):
        must(
            choice["text"].endswith(reason),
            f"{where}.text must end with the stop string (include_stop_str_in_output)",
            expected=reason,
            seen=choice["text"],
        )
    if isinstance(reason, int) and ids:
        must(
            ids[-1] == reason,
            f"{where}.stop_reason must be the last of the token_ids",
            expected=ids[-1],
            seen=reason,
        )
