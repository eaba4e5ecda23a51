"""What a JSON answer looks like, as data: a shape is a dict of fields, a list, or a kind of value.

Fields that a shape does not name are allowed: servers add their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from pytest_vllm.client.failure import CheckFailed, Text, show

__all__ = ["Kind", "Shape", "conform", "exactly", "nullable", "one_of", "optional"]

_MISSING: Any = Text("nothing: it is missing")


@dataclass(frozen=True)
class Kind:
    """A kind of value: its name for people, and its test."""

    name: str
    fits: Callable[[Any], bool]
    required: bool = True


#: `[shape]` is a list, possibly empty, whose items all have this shape.
Shape: TypeAlias = "Kind | Mapping[str, Shape] | list[Shape]"


def exactly(value: str) -> Kind:
    """Only this string."""
    return Kind(show(value), lambda seen: bool(seen == value))


def one_of(*values: str) -> Kind:
    """One of these strings."""
    return Kind(f"one of {', '.join(values)}", lambda seen: seen in values)


def nullable(kind: Kind) -> Kind:
    """The field must be there, and may be null."""
    return Kind(f"{kind.name}, or null", lambda seen: seen is None or kind.fits(seen))


def optional(kind: Kind) -> Kind:
    """The field may be missing or null."""
    return replace(nullable(kind), required=False)


def is_integer(value: Any) -> bool:
    """Whether it was written as an integer; `true` is none, though Python thinks so."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it was written as a number."""
    return isinstance(value, float) or is_integer(value)


STRING = Kind("a string", lambda seen: isinstance(seen, str))
NAME = Kind("a non-empty string", lambda seen: isinstance(seen, str) and seen != "")
COUNT = Kind("an integer, 0 or more", lambda seen: is_integer(seen) and seen >= 0)
NUMBER = Kind("a number", is_number)
#: Seconds, so no milliseconds, no fractions and no zero: the years 2020 to 2100.
TIMESTAMP = Kind(
    "a Unix time in whole seconds", lambda seen: is_integer(seen) and 1577836800 < seen < 4102444800
)


def conform(value: Any, shape: Shape, where: str = "") -> None:
    """Check that a value has a shape; `where` is its path, for the message.

    Raises CheckFailed, which names the first field that is wrong.
    """
    if isinstance(shape, Kind):
        if not shape.fits(value):
            raise CheckFailed(f"{where} must be {shape.name}", seen=value)
    elif isinstance(shape, list):
        _conform_list(value, shape[0], where)
    else:
        _conform_object(value, shape, where)


def _conform_list(value: Any, item: Shape, where: str) -> None:
    if not isinstance(value, list):
        raise CheckFailed(f"{where} must be a list", seen=value)
    for position, entry in enumerate(value):
        conform(entry, item, f"{where}[{position}]")


def _conform_object(value: Any, fields: Mapping[str, Shape], where: str) -> None:
    if not isinstance(value, Mapping):
        raise CheckFailed(f"{where or 'The answer'} must be an object", seen=value)
    for name, shape in fields.items():
        inner = f"{where}.{name}" if where else name
        if name in value:
            conform(value[name], shape, inner)
        elif not isinstance(shape, Kind):
            raise CheckFailed(f"{inner} must be there", seen=_MISSING)
        elif shape.required:
            raise CheckFailed(f"{inner} must be {shape.name}", seen=_MISSING)
