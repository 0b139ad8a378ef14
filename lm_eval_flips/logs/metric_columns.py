"""One metric's logged values -> a column: numbers, or what else a task logs for each sample.

Most metrics log a number a sample. Those whose score is no mean of numbers log pairs (mcc, f1), a
label and a list (brier_score), lists (ifeval's instructions) or texts (bleu, chrf): such values
are kept as ``Values``, so that the harness's aggregation can be followed. A value that is none of
these, or of another kind than the rest of its column, is a fault of its line.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from lm_eval_flips.logs.records import DIGEST, content_digest
from lm_eval_flips.logs.samples import Values, ValuesKind

# Metrics whose logged value is (log-likelihood, units): perplexities, not means.
PERPLEXITIES = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})
# Metrics that are right or wrong wherever the harness's own rule scored them.
RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})

_TRUTH: dict[str, Any] = {"True": 1.0, "False": 0.0}
_PRINTED_ARRAY = re.compile(r"(?:array\()?\[[-+\d.einfaN\s,]*\](?:\))?")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|inf|nan)")


class UnusableValueError(ValueError):
    """A value that is none: its row in the column that was added, and why."""

    def __init__(self, row: int, why: str) -> None:
        super().__init__(why)
        self.row, self.why = row, why


class MetricColumn:
    """Grows one metric's values.

    Args:
        name: the metric.
        strict: the values were read from a file and scored by the harness's own rule, so that one
            without a value, of another kind than the others or out of range is a fault.
    """

    def __init__(self, name: str, *, strict: bool) -> None:
        self.name, self.strict = name, strict
        self.kinds: Counter[str] = Counter()
        self.numbers: array[float] = array("d")
        self.units: array[float] = array("d")
        self.logged = bytearray()
        self._parts: dict[int, tuple[str, list[float], bytes]] = {}

    def add(self, column: Sequence[Any], start: int, *, from_file: bool) -> None:
        """Append the values of samples that follow each other, the first of which is ``start``.

        Raises:
            UnusableValueError: a value that is none.
        """
        self._fill(start)
        numbers = numbers_of(column)
        if numbers is not None and not (self.name in PERPLEXITIES and from_file):
            self._refuse_range(column, numbers, from_file=from_file)
            self._append(numbers, [nan] * len(column))
            self.kinds["number"] += len(column)
            if len(self.kinds) > 1 and from_file:
                self._refuse_mixed(0, "number")
            return
        self._add_other(column, start, from_file=from_file)

    def _append(self, numbers: Sequence[float], units: Sequence[float]) -> None:
        self.numbers.extend(array("d", numbers))
        self.units.extend(array("d", units))
        self.logged += b"\1" * len(numbers)

    def _fill(self, length: int) -> None:
        missing = length - len(self.numbers)
        if missing:
            self.numbers.extend(array("d", [nan]) * missing)
            self.units.extend(array("d", [nan]) * missing)
            self.logged += bytes(missing)

    def _add_other(self, column: Sequence[Any], start: int, *, from_file: bool) -> None:
        found = [_part(value) for value in column]
        if self.name in PERPLEXITIES:
            found = [_perplexity_part(kind, parts) for kind, parts in found]
        kinds = Counter(kind for kind, _ in found)
        if from_file:
            usual = (self.kinds + kinds).most_common(2)[0][0]
            for row, (kind, _) in enumerate(found):
                if kind in ("nothing", "too large"):
                    shown = repr(column[row])
                    raise UnusableValueError(row, f"{self.name} is {shown:.40}, which is no value")
                if kind != usual:
                    self._refuse_mixed(row, kind, usual=usual)
        for row, ((kind, parts), value) in enumerate(zip(found, column, strict=True), start):
            if kind == "perplexity":
                self._append(parts[:1], parts[1:])
                kind = "number"
            elif kind == "number":
                self._append(parts, [nan])
            else:
                self._append([nan], [nan])
                self._parts[row] = kind, parts, content_digest(value)
            self.kinds[kind] += 1

    def _refuse_mixed(self, row: int, kind: str, *, usual: str = "") -> None:
        usual = usual or self.kinds.most_common(1)[0][0]
        # a task's own rule may log nan, or nothing but a number, where there is nothing to list
        if self.strict or "text" in (kind, usual):
            raise UnusableValueError(row, f"{self.name} is a {kind} here and a {usual} elsewhere")

    def _refuse_range(
        self, column: Sequence[Any], numbers: Sequence[float], *, from_file: bool
    ) -> None:
        if not (self.strict and from_file):
            return
        if self.name in RIGHT_OR_WRONG and not set(numbers) <= {0.0, 1.0}:
            for row, value in enumerate(numbers):
                if value not in (0.0, 1.0) and not isnan(value):
                    raise UnusableValueError(
                        row, f"{self.name} is {value!r}, and can only be 0 or 1"
                    )
        if self.name == "exact_match" and (min(numbers) < 0 or max(numbers) > 1):
            row = next(i for i, value in enumerate(numbers) if not 0 <= value <= 1)
            raise UnusableValueError(
                row, f"{self.name} is {numbers[row]!r}, and can only be 0 to 1"
            )
        if self.name == "perplexity" and any(isinstance(value, (bool, str)) for value in column):
            row = next(i for i, value in enumerate(column) if isinstance(value, (bool, str)))
            raise UnusableValueError(row, f"{self.name} is {column[row]!r}, and no log-likelihood")

    def number_column(self, length: int) -> NDArray[np.float64]:
        """The numbers, nan where there is none."""
        self._fill(length)
        return np.frombuffer(self.numbers, np.float64)

    def unit_column(self, length: int) -> NDArray[np.float64]:
        """The units of a perplexity, nan where there are none."""
        self._fill(length)
        return np.frombuffer(self.units, np.float64)

    def logged_column(self, length: int) -> NDArray[np.bool_]:
        """Which samples log the metric."""
        self._fill(length)
        return np.frombuffer(bytes(self.logged), np.bool_)

    @property
    def is_number(self) -> bool:
        """Whether every logged value is a number."""
        return not self._parts

    def values(self, order: NDArray[np.int64]) -> Values:
        """The values that are no numbers, with the samples in this order."""
        width = max((len(parts) for _, parts, _ in self._parts.values()), default=0)
        numbers = np.full((len(order), width), nan)
        counts = np.zeros(len(order), np.int64)
        digests = np.zeros((len(order), DIGEST // 8), np.uint64)
        for row, (_, parts, digest) in self._parts.items():
            numbers[row, : len(parts)] = parts
            counts[row] = len(parts)
            digests[row] = np.frombuffer(digest, np.uint64)
        return Values(
            kind=self._kind(counts),
            numbers=numbers[order],
            counts=counts[order],
            digests=digests[order],
        )

    def _kind(self, counts: NDArray[np.int64]) -> ValuesKind:
        kinds = {kind for kind, _, _ in self._parts.values()}
        if self.kinds["number"] or len(kinds) > 1:
            return "other"
        (kind,) = kinds
        if kind == "list":
            return "pair" if set(counts[list(self._parts)].tolist()) == {2} else "list"
        if kind == "label and list":
            return "label and list"
        return "text" if kind == "text" else "other"


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


def _part(value: Any) -> tuple[str, list[float]]:
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
    if isinstance(value, str):
        return "text", []
    if not isinstance(value, (list, tuple)):
        return "other", []
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


def _perplexity_part(kind: str, parts: list[float]) -> tuple[str, list[float]]:
    if kind == "list" and len(parts) == 2 and isfinite(parts[1]) and parts[1] >= 0:
        return "perplexity", parts
    return ("nothing", []) if kind == "number" else (kind, parts)
