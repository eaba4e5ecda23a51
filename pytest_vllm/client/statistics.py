"""Whether draws come from a distribution: a chi-square test in plain Python, and what it says.

Drawing can be right and look unlikely; a verdict must not. `FALSE_ALARM` is the chance of a wrong
one, per test. The tail of chi-square is only approximate for counts: with at least `ENOUGH`
expected in each cell, and a nominal level a thousand times smaller than the promised 1e-6, what
the approximation gets wrong stays far within the promise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from pytest_vllm.client.failure import CheckFailed, Text

__all__ = ["ENOUGH", "FALSE_ALARM", "check_draws", "chi_square", "chi_square_tail"]

T = TypeVar("T", bound=Hashable)

FALSE_ALARM = 1e-9
ENOUGH = 20.0
"""Cells that expect fewer draws are counted together."""


def check_draws(draws: Sequence[T], probabilities: Mapping[T, float], what: str) -> None:
    """Draws come from this distribution: nothing else is drawn, and each as often as it should.

    Args:
        draws: What was drawn.
        probabilities: By value; what is not here must never be drawn.
        what: The name of the distribution, for the message.

    Raises:
        CheckFailed: A foreign value, or frequencies that chance does not explain.
    """
    counts = Counter(draws)
    if strangers := [value for value in counts if value not in probabilities]:
        raise CheckFailed(
            f"With {what}, only tokens that it leaves must be drawn",
            expected=Text(f"one of {len(probabilities)}"),
            seen=strangers[:5],
        )
    statistic, degrees = chi_square(counts, probabilities)
    tail = chi_square_tail(statistic, degrees)
    if tail < FALSE_ALARM:
        worst = max(probabilities, key=lambda v: abs(counts[v] - len(draws) * probabilities[v]))
        raise CheckFailed(
            f"With {what}, tokens must be drawn as often as their probabilities say"
            f" (chi-square {statistic:.0f}, {degrees} degrees of freedom, chance {tail:.1g})",
            expected=Text(f"{worst!r} about {len(draws) * probabilities[worst]:.0f} times"),
            seen=Text(f"{counts[worst]} of {len(draws)}"),
        )


def chi_square(counts: Mapping[T, int], probabilities: Mapping[T, float]) -> tuple[float, int]:
    """The statistic and its degrees of freedom; rare values share a cell."""
    total = sum(counts.values())
    cells: list[tuple[float, int]] = []
    rest = (0.0, 0)
    for value in sorted(probabilities, key=lambda v: -probabilities[v]):
        cell = (total * probabilities[value], counts.get(value, 0))
        if cell[0] >= ENOUGH:
            cells.append(cell)
        else:
            rest = (rest[0] + cell[0], rest[1] + cell[1])
    if rest[0] >= ENOUGH or not cells:
        cells.append(rest)
    elif rest[0]:
        # Too few even together: to the smallest cell that is large enough.
        cells[-1] = (cells[-1][0] + rest[0], cells[-1][1] + rest[1])
    return math.fsum((seen - wanted) ** 2 / wanted for wanted, seen in cells), len(cells) - 1


def chi_square_tail(statistic: float, degrees: int) -> float:
    """The chance of a statistic at least this large; 1 without degrees of freedom.

    The regularised upper incomplete gamma function Q(degrees/2, statistic/2): by its series below
    the bend, by Lentz's continued fraction above (Abramowitz & Stegun 6.5.29 and 6.5.31).
    """
    if degrees <= 0 or statistic <= 0:
        return 1.0
    a, x = degrees / 2, statistic / 2
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    return 1 - front * _series(a, x) if x < a + 1 else front * _fraction(a, x)


def _series(a: float, x: float) -> float:
    term = total = 1 / a
    n = a
    while term > total * 1e-16:
        n += 1
        term *= x / n
        total += term
    return total


def _fraction(a: float, x: float) -> float:
    b = x + 1 - a
    c, d = math.inf, 1 / b
    value = d
    for i in range(1, 10_000):
        step = -i * (i - a)
        b += 2
        d = 1 / (step * d + b)
        c = b + step / c
        value *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return value
