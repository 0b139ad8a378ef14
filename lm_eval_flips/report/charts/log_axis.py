"""A logarithmic axis on which 0 has a place: values are drawn at their decimal logarithm.

What is 0, or smaller than the axis goes, lies on the axis' first tick, which says ≤; what is
infinite on its last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10

import altair as alt

SMALLEST = -9.0  # decades; distances below are rounding
MOST_TICKS = 6
NARROW = 1.2  # decades, below which an axis does not go to whole ones
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogScale:
    """From 10 ** low to 10 ** high; what lies beyond is drawn at the ends."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where a value lies: its decimal logarithm, within the axis."""
        found = log10(value) if 0 < value < inf else (inf if value > 0 else -inf)
        return round(min(max(found, self.low), self.high), 4)

    def altair(self) -> alt.Scale:
        """The scale for a field of such places."""
        return alt.Scale(domain=[self.low, self.high], nice=False, zero=False)

    def axis(self, *, cut: bool) -> alt.Axis:
        """Labels such as 10⁻³; where values are cut, the first says that smaller ones lie there."""
        if self.high - self.low < NARROW:
            steps = (
                (1, 2, 5)
                if self.high - self.low > NARROW / 2
                else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 7)
            )
            values = [log10(step * 10**power) for power in range(-12, 7) for step in steps]
            inside = [round(value, 6) for value in values if self.low <= value <= self.high]
            return alt.Axis(values=inside, labelExpr="format(pow(10, datum.value), '.2~g')")
        low, high = floor(self.low), ceil(self.high)
        ticks = list(range(low, high + 1, ceil((high - low) / MOST_TICKS)))
        words = {power: decade(power) for power in ticks}
        if cut:
            words[low] = f"≤ {decade(low)}"
        lookup = ",".join(f"'{power}':'{text}'" for power, text in words.items())
        return alt.Axis(values=ticks, labelExpr=f"({{{lookup}}})[datum.value] || ''")


def log_scale(values: Iterable[float], *, whole: bool = True) -> LogScale:
    """Decades around all positive values; whole ones, unless all lie close together.

    Example:
        >>> log_scale([0.0, 0.002, 0.3])
        LogScale(low=-3.0, high=0.0)
    """
    places = [log10(value) for value in values if value > 0 and isfinite(value)]
    if not places:
        return LogScale(low=-3.0, high=0.0)
    low, high = max(min(places), SMALLEST), max(max(places), SMALLEST + 1.0)
    if not whole and 0 < high - low < 0.8 * NARROW:
        edge = 0.1 * (high - low) + 0.02
        return LogScale(low=round(low - edge, 4), high=round(high + edge, 4))
    return LogScale(low=float(floor(low)), high=float(max(floor(low) + 1, ceil(high))))


def decade(power: int) -> str:
    """A power of ten as people write it.

    Example:
        >>> decade(-4), decade(0), decade(1)
        ('10⁻⁴', '1', '10')
    """
    return {0: "1", 1: "10"}.get(power, f"10{str(power).translate(_RAISED)}")
