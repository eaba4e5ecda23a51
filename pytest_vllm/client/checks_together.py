"""Two answers that must say the same, and answers that must not be mixed up. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pytest_vllm.client.difference import difference
from pytest_vllm.client.failure import CheckFailed

if TYPE_CHECKING:
    from pytest_vllm.client.exchange import Answer

__all__ = ["ids_differ", "same_answer"]

#: What may differ between two answers to one request.
PASSING = frozenset(
    {"id", "created", "system_fingerprint", "service_tier", "metrics", "prompt_tokens_details"}
)

#: Nats; batches are computed differently.
SAME_LOGPROB = 0.05


def same_answer(left: Callable[[], Answer], right: Callable[[], Answer], what: str) -> None:
    """Both say the same; where they do not, both are asked again, twice: a near-tie may round.

    Raises CheckFailed, with both curl lines.
    """
    __tracebackhide__ = True
    for last in (False, False, True):
        a, b = left(), right()
        found = difference(a.json, b.json, ignore=PASSING, tolerance=SAME_LOGPROB)
        if found is None:
            return
        if last:
            raise CheckFailed(
                f"{what} must have the same answer; {found.where} differs",
                expected=found.left,
                seen=found.right,
            ).reproduced_by(a.curl, b.curl)


def ids_differ(answers: Sequence[Answer]) -> None:
    """Each answer has an id of its own. Raises CheckFailed."""
    counts = Counter(answer.json["id"] for answer in answers)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise CheckFailed("Each answer must have an id of its own", seen=twice)
