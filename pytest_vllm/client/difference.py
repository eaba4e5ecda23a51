"""The first difference of two JSON values: where, and what stands on either side. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from pytest_vllm.client.shapes import is_number

__all__ = ["Difference", "difference"]


class Difference(NamedTuple):
    """One place at which two values differ."""

    where: str
    left: Any
    right: Any


def difference(
    left: Any, right: Any, *, ignore: Collection[str] = (), tolerance: float = 0.0
) -> Difference | None:
    """Find the first place at which two JSON values differ; None if they say the same.

    A field that is null says the same as one that is not there. Of two strings only the part
    from the first difference on is given.

    Args:
        left: One value.
        right: The other.
        ignore: Names of fields, at any depth, that may differ.
        tolerance: How far two numbers with a fraction may be apart. Of the candidates of a token
            (`top_logprobs`, by text) the last may be another one that is as likely.
    """
    return next(_differences(left, right, "", frozenset(ignore), tolerance), None)


def _differences(
    left: Any, right: Any, where: str, ignore: frozenset[str], tolerance: float
) -> Iterator[Difference]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        tied = _tied(left, right, tolerance)
        for key in [*left, *(key for key in right if key not in left)]:
            if key not in ignore and key not in tied:
                inner = f"{where}.{key}" if where else str(key)
                yield from _differences(left.get(key), right.get(key), inner, ignore, tolerance)
    elif isinstance(left, list) and isinstance(right, list):
        for at, (a, b) in enumerate(zip(left, right, strict=False)):
            yield from _differences(a, b, f"{where}[{at}]", ignore, tolerance)
        if len(left) != len(right):
            yield Difference(f"the length of {where or 'the list'}", len(left), len(right))
    elif isinstance(left, str) and isinstance(right, str):
        if left != right:
            yield _of_strings(left, right, where)
    elif not _same(left, right, tolerance):
        yield Difference(where or "the value", left, right)


def _tied(left: Mapping[str, Any], right: Mapping[str, Any], tolerance: float) -> frozenset[str]:
    """Candidates that one side has only, where their logprob is about the other side's least.

    Which of two equally likely tokens is the last of the best is a matter of rounding.
    """
    values = [*left.values(), *right.values()]
    if not tolerance or not values or not all(isinstance(value, float) for value in values):
        return frozenset()
    if len(left) != len(right):
        return frozenset()
    return frozenset(
        key
        for side, other in ((left, right), (right, left))
        for key, value in side.items()
        if key not in other and abs(value - min(other.values())) <= tolerance
    )


def _same(left: Any, right: Any, tolerance: float) -> bool:
    if (
        is_number(left)
        and is_number(right)
        and (isinstance(left, float) or isinstance(right, float))
    ):
        return math.isclose(left, right, rel_tol=0, abs_tol=tolerance)
    return type(left) is type(right) and bool(left == right)


def _of_strings(left: str, right: str, where: str) -> Difference:
    at = next(
        (at for at, (a, b) in enumerate(zip(left, right, strict=False)) if a != b),
        min(len(left), len(right)),
    )
    begin = max(0, at - 10)
    dots = "…" if begin else ""
    place = f"{where or 'the text'} (from character {at} on)"
    return Difference(place, dots + left[begin:], dots + right[begin:])
