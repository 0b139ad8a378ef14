"""What a number of a row is, and how it is read: the forms that ``numbers.py`` lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from math import isnan, nan
from typing import TYPE_CHECKING, Literal

from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.pairs.metric import PairedMetric

if TYPE_CHECKING:
    from lm_eval_flips.comparison.planned import PlannedRow
    from lm_eval_flips.comparison.result import Row

Unit = Literal[
    "count",
    "share",
    "score",
    "nats",
    "bits",
    "ratio",
    "characters",
    "correlation",
    "auroc",
    "tokens",
    "p",
]
Read = Callable[["Row"], "int | float | None"]
Column = Callable[[PairedMetric], "Tensor | None"]

# Why a number has no interval of its own.
COUNTED = "a count: the share beside it has one"
PAIRED = "the scores are of the same samples: their change has one"
EXTREME = "a largest value bounds nothing"
GIVEN = "given, not estimated"
TESTED = "a p-value"
DERIVED = "derived from an interval"
AT_RANDOM = "what noise would give, as a yardstick"
A_COUNT = "a count of samples"
POSITIONS = "of positions, not of samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """One number of a row, with its 95 % interval; nan where there is none.

    Shares lie in 0..1, distances are nats, counts are whole numbers. Of a planned row the number
    speaks of all documents, and its interval of questions like these, as a full run's does.
    """

    key: str
    unit: Unit
    value: int | float  # a count is an int
    interval: Interval = NO_INTERVAL

    @classmethod
    def between(
        cls, key: str, value: int | float, low: float, high: float, *, unit: Unit
    ) -> Number:
        """A number and the ends of its interval, as they were kept."""
        return cls(key=key, unit=unit, value=value, interval=Interval(low, high))

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return not isnan(self.value)


@dataclass(frozen=True, slots=True)
class Spec:
    """How a number is called, measured and read.

    ``read`` takes it from a row; None where it is the mean of ``column``, the per-sample values
    that it stands for, or, with ``median``, their median, or is measured as those are, under its
    key. ``floor``: it is held against the noise floor. ``detail``: for the JSON, not for tables of
    many rows. ``no_interval`` says why it has none, empty where it has one. ``least``: less of it
    is what is lost, so that a gate asks for a least.
    """

    key: str
    unit: Unit
    read: Read | None = None
    _: KW_ONLY
    column: Column | None = None
    median: bool = False
    floor: bool = False
    detail: bool = False
    least: bool = False
    no_interval: str = ""

    def of(self, row: Row) -> Number:
        """The number of a row."""
        value = row.means.get(self.key) if self.read is None else self.read(row)
        return self._number(value, row.intervals.get(self.key, NO_INTERVAL))

    def planned(self, row: PlannedRow) -> Number:
        """The number of a planned row."""
        if self.key in row.estimates:
            estimate = row.estimates[self.key]
            return self._number(estimate.value, estimate.general)
        return self._number(row.known.get(self.key), NO_INTERVAL)

    def _number(self, value: int | float | None, interval: Interval) -> Number:
        known = nan if value is None else value
        return Number(key=self.key, unit=self.unit, value=known, interval=interval)
