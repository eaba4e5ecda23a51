"""Rules that the readers of several endpoints share. Pure; each raises CheckFailed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.failure import CheckFailed, Text
from pytest_vllm.client.shapes import COUNT, STRING, Shape, conform, is_number, optional

if TYPE_CHECKING:
    from pytest_vllm.client.dialect import Dialect
    from pytest_vllm.client.exchange import Answer, Request

__all__ = [
    "check_created",
    "check_details",
    "check_finish",
    "check_head",
    "check_id",
    "check_indices",
    "check_json_type",
    "check_model",
    "check_total",
    "is_logprob",
    "is_streamed",
    "is_streamed_request",
    "must",
    "stops_of",
]

#: Seconds that a server's `created` may be off from its own `Date`. uvicorn writes that once a
#: second, on the loop that a busy server starves: 7 s late were seen.
_CLOCK_S = 60.0


def must(holds: object, rule: str, **values: Any) -> None:
    """Raise CheckFailed with this rule unless it holds."""
    if not holds:
        raise CheckFailed(rule, **values)


def is_streamed(answer: Answer) -> bool:
    """Whether the answer was put together from a stream."""
    return bool(answer.request.get("stream"))


def is_streamed_request(request: Request) -> bool:
    """Whether a stream was asked for."""
    return bool(request.get("stream"))


def is_logprob(value: Any) -> bool:
    """0 or less, with a rounding to spare; vLLM writes minus infinity as -9999."""
    return is_number(value) and -10000 <= value <= 1e-6


def stops_of(request: Request) -> list[str]:
    """The stop strings of a request: one may stand without a list."""
    stops = request.get("stop", [])
    return [stops] if isinstance(stops, str) else list(stops)


_HEAD: dict[str, Shape] = {
    "system_fingerprint": optional(STRING),
    "service_tier": optional(STRING),
}


def check_head(body: Mapping[str, Any]) -> None:
    """Fields that a server may leave out are strings where they are there."""
    conform(body, _HEAD)


def check_json_type(answer: Answer) -> None:
    """The answer says that it is JSON (a stream has said what it is before)."""
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not is_streamed(answer):
        must(
            media_type == "application/json",
            "The content type must be application/json",
            seen=media_type,
        )


def check_id(seen: str, prefix: str, dialect: Dialect) -> None:
    """vLLM's ids begin with the kind of answer; other servers have their own habits."""
    if dialect.is_vllm:
        good = seen.startswith(prefix) and len(seen) > len(prefix) + 7
        must(good, f"An id must begin with {prefix} and be long enough to be unique", seen=seen)


def check_created(created: float, answer: Answer) -> None:
    """The answer was created between its request and now.

    By the server's own clock, which `Date` tells, since ours may be another; where the two agree,
    by ours, which is not late when the server is busy.
    """
    date = answer.headers.get("date")
    if date is None:
        return
    try:
        said = parsedate_to_datetime(date).timestamp()
    except ValueError:
        raise CheckFailed("The header Date must be a date", seen=date) from None
    now = time.time()
    if answer.sent_at and abs(said - now) < _CLOCK_S / 3:
        earliest, latest = answer.sent_at - _CLOCK_S / 3, now + _CLOCK_S / 3
    else:
        waited = now - answer.sent_at if answer.sent_at else 300.0
        earliest, latest = said - waited - _CLOCK_S, said + _CLOCK_S
    must(
        created <= latest,
        "`created` must be no later than the answer's Date",
        expected=Text(f"at most {latest:.0f}"),
        seen=created,
    )
    must(
        created >= earliest,
        "`created` must be the time of the request",
        expected=Text(f"at least {earliest:.0f}"),
        seen=created,
    )


def check_model(seen: Any, request: Request) -> None:
    """An answer or a chunk names the model of its request."""
    asked = request.get("model", seen)
    must(seen == asked, "`model` must be the one that was asked for", expected=asked, seen=seen)


def check_indices(choices: Sequence[Mapping[str, Any]], count: int) -> None:
    """One choice for each prompt and each `n`, in order."""
    indices = [choice["index"] for choice in choices]
    rule = (
        "There must be one choice, with index 0"
        if count == 1
        else f"There must be {count} choices, with the indices 0 to {count - 1} in order"
    )
    must(indices == list(range(count)), rule, expected=list(range(count)), seen=indices)


def check_total(usage: Mapping[str, Any]) -> None:
    """`usage` adds up."""
    total = usage["prompt_tokens"] + usage["completion_tokens"]
    must(
        usage["total_tokens"] == total,
        "usage.total_tokens must be prompt_tokens + completion_tokens",
        expected=total,
        seen=usage["total_tokens"],
    )
    must(
        usage["prompt_tokens"] > 0,
        "usage.prompt_tokens must count the prompt",
        seen=usage["prompt_tokens"],
    )


def check_details(usage: Mapping[str, Any]) -> None:
    """`prompt_tokens_details` and `completion_tokens_details` are parts of the counts."""
    for name in ("prompt_tokens", "completion_tokens"):
        details, where = usage.get(f"{name}_details"), f"usage.{name}_details"
        if details is None:
            continue
        conform(details, {}, where)
        for part, value in details.items():
            if value is None or not part.endswith("_tokens"):
                continue
            conform(value, COUNT, f"{where}.{part}")
            must(
                value <= usage[name],
                f"{where}.{part} must be at most usage.{name}",
                expected=Text(f"at most {usage[name]}"),
                seen=value,
            )


def check_finish(choice: Mapping[str, Any], request: Request, dialect: Dialect) -> None:
    """`stop_reason`, a field of vLLM's, agrees with `finish_reason` and with what was asked."""
    reason, where = choice.get("stop_reason"), f"choices[{choice['index']}]"
    if not dialect.is_vllm or reason is None:
        return
    must(
        choice["finish_reason"] != "length",
        f"{where}.stop_reason must be null where max_tokens ended the answer",
        seen=reason,
    )
    asked = [*stops_of(request), *request.get("stop_token_ids", [])]
    # A model's own end tokens, besides the first, are reported as numbers, too.
    own = is_number(reason) and not request.get("ignore_eos")
    must(
        any(type(reason) is type(stop) and reason == stop for stop in asked) or own,
        f"{where}.stop_reason must be the stop string or token that was met",
        expected=asked,
        seen=reason,
    )
