"""Is the score the same, within a margin? Two one-sided tests (TOST).

A test that finds no difference is no evidence that there is none. TOST (Schuirmann 1987, J.
Pharmacokinet. Biopharm. 15) asks the other way round: the scores are equivalent where the whole
90 % interval of their change lies within the margin, which is a test at 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan, nan
from typing import Literal

from lm_eval_flips.measures.significance import Interval

LEVEL = 0.05

Verdict = Literal["equivalent", "different", "both", "undecided"]

SENTENCES: dict[Verdict, str] = {
    "equivalent": "The scores are equivalent: their change lies within the margin.",
    "different": "The scores differ, and the change may exceed the margin.",
    "both": "The scores differ, but by less than the margin.",
    "undecided": "Too few samples to tell: the change may be nothing, or exceed the margin.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalence:
    """A score change held against a margin, both in the score's own unit.

    ``inner`` is the change's 90 % interval, ``outer`` its 95 % interval. ``p_value`` is that of no
    change by the row's test, which alone calls scores different; nan where none was made, as for a
    plan's estimates: then the 95 % interval does.
    """

    margin: float
    change: float
    inner: Interval
    outer: Interval
    p_value: float = nan

    @property
    def verdict(self) -> Verdict:
        """Whether the scores are equivalent, different, both or neither, each at 5 %.

        Example:
            >>> Equivalence(
            ...     margin=0.01,
            ...     change=-0.004,
            ...     inner=Interval(-0.007, -0.001),
            ...     outer=Interval(-0.008, -0.0005),
            ... ).verdict
            'both'
        """
        if isnan(self.inner.low) or isnan(self.outer.low):
            return "undecided"
        equivalent = -self.margin < self.inner.low and self.inner.high < self.margin
        different = self.p_value < LEVEL
        if isnan(self.p_value):
            different = self.outer.low > 0 or self.outer.high < 0
        if equivalent:
            return "both" if different else "equivalent"
        return "different" if different else "undecided"

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        return SENTENCES[self.verdict]
