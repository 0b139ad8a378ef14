"""One metric's logged values -> a column: numbers, or what else a task logs for each sample.

Most metrics log a number a sample. Those whose score is no mean of numbers log pairs (mcc, f1), a
label and a list (brier_score), lists (ifeval's instructions) or texts (bleu, chrf): such values
are kept as ``Values``, so that the harness's aggregation can be followed. A value that is none of
these, or of another kind than the rest of its column, is a fault of its line.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from math import isnan, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.logs.records import DIGEST, content_digest
from lm_eval_flips.logs.samples import Values, ValuesKind
from lm_eval_flips.logs.value_kinds import numbers_of, part_of, perplexity_part

# Metrics whose logged value is (log-likelihood, units): perplexities, not means.
PERPLEXITIES = frozenset({"word_perplexity", "byte_perplexity", "bits_per_byte"})
# Metrics that are right or wrong wherever the harness's own rule scored them.
RIGHT_OR_WRONG = frozenset({"acc", "acc_norm", "acc_bytes", "acc_mutual_info"})


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
        values = [part_of(value) for value in column]
        if self.name in PERPLEXITIES:
            values = [perplexity_part(kind, parts) for kind, parts in values]
        if from_file:
            self._refuse_kinds([kind for kind, _ in values], column)
        for row, ((kind, parts), value) in enumerate(zip(values, column, strict=True), start):
            if kind == "perplexity":
                self._append(parts[:1], parts[1:])
            elif kind == "number":
                self._append(parts, [nan])
            else:
                self._append([nan], [nan])
                self._parts[row] = kind, parts, content_digest(value)
            self.kinds[kind] += 1

    def _refuse_kinds(self, kinds: Sequence[str], column: Sequence[Any]) -> None:
        """Refuse what is no value, and a value of another kind than most of the column."""
        usual = (self.kinds + Counter(kinds)).most_common(2)[0][0]
        for row, kind in enumerate(kinds):
            if kind in ("nothing", "too large"):
                shown = repr(column[row])
                raise UnusableValueError(row, f"{self.name} is {shown:.40}, which is no value")
            if kind != usual:
                self._refuse_mixed(row, kind, usual=usual)

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
            self._refuse(
                numbers, lambda x: x not in (0.0, 1.0) and not isnan(x), "can only be 0 or 1"
            )
        if self.name == "exact_match" and (min(numbers) < 0 or max(numbers) > 1):
            self._refuse(numbers, lambda x: not 0 <= x <= 1, "can only be 0 to 1")
        if self.name == "perplexity":
            self._refuse(column, lambda x: isinstance(x, (bool, str)), "no log-likelihood")

    def _refuse(self, values: Sequence[Any], bad: Callable[[Any], bool], why: str) -> None:
        """Refuse the first bad value, if there is one."""
        for row, value in enumerate(values):
            if bad(value):
                raise UnusableValueError(row, f"{self.name} is {value!r}, and {why}")

    def number_column(self, length: int) -> NDArray[np.float64]:
        """The numbers, nan where there is none."""
        self._fill(length)
        return np.frombuffer(self.numbers, np.float64)

    def unit_column(self, length: int) -> NDArray[np.float64]:
        """The units of a perplexity, nan where there are none."""
        self._fill(length)
        return np.frombuffer(self.units, np.float64)

    @property
    def has_units(self) -> bool:
        """Whether any value has one."""
        return bool((~np.isnan(np.frombuffer(self.units, np.float64))).any())

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
        if self.kinds["number"] or self.kinds["perplexity"] or len(kinds) > 1:
            return "other"
        (kind,) = kinds
        if kind == "list":
            return "pair" if set(counts[list(self._parts)].tolist()) == {2} else "list"
        if kind == "label and list":
            return "label and list"
        return "text" if kind == "text" else "other"
