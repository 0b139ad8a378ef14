"""Ends of intervals that cannot lie beyond what the number can be."""

from __future__ import annotations

from math import inf, isnan

from lm_eval_flips.measures.significance import Interval


def within(interval: Interval, *, lowest: float = -inf, highest: float = inf) -> Interval:
    """The interval cut to what the number can be; an end that is nan stays so.

    Example:
        >>> within(Interval(-1.2, 0.3), lowest=-1.0, highest=1.0)
        Interval(low=-1.0, high=0.3)
    """
    low, high = (end if isnan(end) else min(max(end, lowest), highest) for end in interval)
    return Interval(low, high)


def above_0(interval: Interval) -> Interval:
    """A distance is never below 0.

    Example:
        >>> above_0(Interval(-0.1, 0.3))
        Interval(low=0.0, high=0.3)
    """
    return Interval(within(interval, lowest=0.0).low, interval.high)


def agreeing(interval: Interval, p_value: float, *, level: float = 0.95) -> Interval:
    """The interval of a change, reaching to 0 where its test calls it no change.

    Interval and test are made in different ways: where few samples moved an interval may leave 0
    out that the exact test does not. What is shown beside a p never contradicts it.

    Example:
        >>> agreeing(Interval(-0.05, -0.001), 0.125)
        Interval(low=-0.05, high=0.0)
    """
    if not p_value >= 1 - level:
        return interval
    low, high = interval
    return Interval(low if isnan(low) else min(low, 0.0), high if isnan(high) else max(high, 0.0))
