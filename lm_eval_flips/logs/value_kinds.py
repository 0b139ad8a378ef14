"""What a logged value of a metric is: a number, a list of them, a label and a list, or a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isfinite
from typing import Any

from msgspec import UNSET

_TRUTH: dict[str, Any] = {"True": 1.0, "False": 0.0}
_PRINTED_ARRAY = re.compile(r"(?:array\()?\[[-+\d.einfaN\s,]*\](?:\))?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)")


def numbers_of(column: Sequence[Any]) -> list[float] | None:
    """A metric's values as logged: numbers, bools, or either as strings; else None.

    Example:
        >>> numbers_of([True, "0.5", 2])
        [1.0, 0.5, 2.0]
        >>> numbers_of(["", 1.0]) is None
        True
    """
    try:
        return [float(value) for value in column]
    except ValueError:
        pass
    except (TypeError, OverflowError):
        return None
    try:
        return [float(_TRUTH.get(value, value)) for value in column]
    except (TypeError, ValueError, OverflowError):
        return None


def part_of(value: Any) -> tuple[str, list[float]]:
    """What kind of value it is, and its numbers."""
    if value is None or value is UNSET or (isinstance(value, (str, dict)) and not value):
        return "nothing", []
    try:
        number = numbers_of([value])
    except RecursionError:
        return "other", []
    if number is not None:
        return "number", number
    if isinstance(value, int):
        return "too large", []
    if not isinstance(value, (list, tuple)):
        return ("text" if isinstance(value, str) else "other"), []
    return _list_part(value)


def _list_part(value: Sequence[Any]) -> tuple[str, list[float]]:
    numbers = _flat(value)
    if numbers is not None:
        return "list", numbers
    if len(value) == 2 and (label := numbers_of(value[:1])) is not None:
        second = value[1]
        listed = _flat(second) if isinstance(second, (list, tuple)) else _printed(second)
        if listed is not None:
            return "label and list", [*label, *listed]
    return "text", []


def _flat(value: Sequence[Any]) -> list[float] | None:
    if any(isinstance(item, str) for item in value):  # texts that look like numbers stay texts
        return None
    return numbers_of(value)


def _printed(value: Any) -> list[float] | None:
    """The numbers of an array that was logged as numpy prints it."""
    if not isinstance(value, str) or not _PRINTED_ARRAY.fullmatch(value):
        return None
    return [float(number) for number in _NUMBER.findall(value)]


def perplexity_part(kind: str, parts: list[float]) -> tuple[str, list[float]]:
    """The same of a perplexity, whose value is a pair: a log-likelihood, and what it counts."""
    if kind == "list" and len(parts) == 2 and isfinite(parts[1]) and parts[1] >= 0:
        return "perplexity", parts
    return ("nothing", []) if kind == "number" else (kind, parts)
