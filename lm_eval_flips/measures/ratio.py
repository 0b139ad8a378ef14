"""A ratio of two estimates, from the intervals of each: MOVER-R.

The limits of both are recovered and put together (Donner and Zou 2012, Stat. Methods Med. Res. 21,
347-359, for independent estimates), so that a ratio keeps the level of its parts where those are
not symmetric.
"""

from __future__ import annotations

from math import nan, sqrt

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval


def ratio_interval(*, top: float, of_top: Interval, bottom: float, of_bottom: Interval) -> Interval:
    """Interval of ``top / bottom`` of the level of both intervals.

    Args:
        top: an estimate of either sign.
        of_top: its interval.
        bottom: an estimate above 0.
        of_bottom: its interval, which holds nothing below 0.

    Returns:
        Open at an end that the interval of ``bottom`` does not bound; nan at both where something
        is unknown.

    Example:
        >>> found = ratio_interval(
        ...     top=-0.02, of_top=Interval(-0.04, 0.0), bottom=0.5, of_bottom=Interval(0.4, 0.6)
        ... )
        >>> round(found.low, 4), round(found.high, 4)
        (-0.0833, -0.0)
    """
    given = (top, *of_top, bottom, *of_bottom)
    if any(value != value for value in given) or bottom <= 0:
        return NO_INTERVAL
    if top < 0:
        low, high = ratio_interval(
            top=-top,
            of_top=Interval(-of_top.high, -of_top.low),
            bottom=bottom,
            of_bottom=of_bottom,
        )
        return Interval(-high, -low)
    # of a ratio below 0 the smaller bottom is the further end
    far = of_bottom.high if of_top.low >= 0 else of_bottom.low
    return Interval(
        _end(top, of_top.low, bottom, far, sign=-1),
        _end(top, of_top.high, bottom, of_bottom.low, sign=1),
    )


def _end(top: float, of_top: float, bottom: float, of_bottom: float, *, sign: int) -> float:
    """The end where the top is at ``of_top`` and the bottom at ``of_bottom``."""
    below = of_bottom * (2 * bottom - of_bottom)
    if below <= 0:
        return nan
    product = top * bottom
    inside = product**2 - of_top * (2 * top - of_top) * below
    return (product + sign * sqrt(max(0.0, inside))) / below
