"""How sure is it that a threshold is broken? One-sided p-values, from a number and its interval.

A share is held against its threshold by the exact binomial test, whose lower end is Clopper and
Pearson's: Wilson's lies too high where few samples count (one flip of 174 would break 0.1 % in 16 %
of all cases). The samples are as many as would give the share's interval (Kish), so that clusters,
strata and plans are followed. Other numbers are judged by how many standard errors, as their
interval has them, they lie beyond; distances on a logarithmic scale, as their interval does.
"""

from __future__ import annotations

from math import inf, isnan, log, nan

from lm_eval_flips.gate.thresholds import DISTANCES, EQUIVALENCE, SHARES, is_least
from lm_eval_flips.measures.shares import share_above
from lm_eval_flips.measures.significance import Interval, normal_quantile, normal_share

LEVEL = 0.025  # one-sided, as the end of a 95 % interval


def p_broken(rule: str, value: float, interval: Interval, threshold: float) -> float:
    """One-sided p that a threshold is kept; small where it is broken.

    Args:
        rule: the threshold's name.
        value: what was measured.
        interval: its interval: 95 %, but 90 % for an equivalence margin.
        threshold: the most that is allowed, or the least that is enough; of an equivalence margin
            in either direction.

    Returns:
        nan where there is nothing to judge by; 0 for an infinite distance, which no threshold
        allows.

    Example:
        >>> from lm_eval_flips.measures.shares import wilson
        >>> round(p_broken("max_flips", 1 / 174, wilson(1, 174), 0.001), 3)
        0.16
    """
    if value == inf:
        return 0.0
    if isnan(value) or isnan(interval.low):
        return nan
    if is_least(rule):  # too little of it is too much of what it lacks
        value, threshold = 1 - value, 1 - threshold
        interval = Interval(1 - interval.high, 1 - interval.low)
    if rule in SHARES:
        return share_above(value, _samples(value, interval), threshold)
    if rule == EQUIVALENCE:
        below = _beyond(-value, Interval(-interval.high, -interval.low), threshold, level=0.9)
        return min(_beyond(value, interval, threshold, level=0.9), below)
    if rule in DISTANCES and min(value, interval.low, threshold) > 0:
        logs = Interval(log(interval.low), nan)
        return _beyond(log(value), logs, log(threshold), level=0.95)
    return _beyond(value, interval, threshold, level=0.95)


def _beyond(value: float, interval: Interval, threshold: float, *, level: float) -> float:
    """By the standard errors that lie between a value and its interval's low end."""
    error = (value - interval.low) / normal_quantile(level)
    if error > 0:
        return 1 - normal_share((value - threshold) / error)
    return 0.0 if value > threshold else 1.0


def _samples(share: float, interval: Interval) -> float:
    """As many independent samples as would have this Wilson interval."""
    end = interval.low if share > 0 else interval.high
    if isnan(end) or end == share or not 0 < end < 1:
        return nan if isnan(end) else inf
    return end * (1 - end) * (normal_quantile(0.95) / (share - end)) ** 2
