"""Two answers that must say the same, and answers that must not be mixed up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Answer

__all__ = ["PASSING", "SAME_LOGPROB", "alike", "ids_differ", "same_answer"]

#: What may differ between two answers to one request.
PASSING = frozenset(
    {
        *("id", "created", "system_fingerprint", "service_tier", "metrics", "timings"),
        "prompt_tokens_details",
    }
)

#: Logprobs of the same request may differ by this much (nats): batches are computed differently.
SAME_LOGPROB = 0.05


def alike(
    ask_both: Callable[[], tuple[Answer, Answer]],
    rule: str,
    *,
    told: Callable[[Answer], Any] = lambda answer: answer.json,
    ignore: Sequence[str] = (),
) -> tuple[Answer, Answer]:
    """Two answers must say the same. Returns them.

    For requests whose answer is determined (greedy, or with a seed). Only where the two differ
    is it asked again, twice: under load a server may batch two equal requests differently and
    round a near-tie the other way.

    Args:
        ask_both: Asks for the one, which is right, and the other.
        rule: What must hold, for the message.
        told: The part of an answer that counts.
        ignore: Names of fields that may differ, besides `PASSING`.

    Raises CheckFailed, with both curl lines.
    """
    __tracebackhide__ = True
    for last in (False, False, True):
        one, other = ask_both()
        found = difference(
            told(one), told(other), ignore=[*PASSING, *ignore], tolerance=SAME_LOGPROB
        )
        if found is None:
            return one, other
        if last:
            raise CheckFailed(
                f"{rule}; {found.where} differs", expected=found.left, seen=found.right
            ).reproduced_by(other.curl, one.curl)
    raise AssertionError  # the loop has returned or raised


def same_answer(left: Callable[[], Answer], right: Callable[[], Answer], what: str) -> None:
    """Both must say the same; see `alike`. Raises CheckFailed, with both curl lines."""
    __tracebackhide__ = True
    alike(lambda: (left(), right()), f"{what} must have the same answer")


def ids_differ(answers: Sequence[Answer]) -> None:
    """Each answer has an id of its own. Raises CheckFailed."""
    counts = Counter(answer.json["id"] for answer in answers)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise CheckFailed("Each answer must have an id of its own", seen=twice)
