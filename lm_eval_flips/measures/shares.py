"""Intervals and tests of shares and counts: Wilson, Clopper and Pearson."""

from __future__ import annotations

from math import isnan, nan, sqrt

from scipy import special

from lm_eval_flips.measures.significance import (
    NO_INTERVAL,
    Freedom,
    Interval,
    normal_quantile,
    t_quantile,
)


def wilson(count: int, n: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval of the share ``count / n`` (1927, JASA 22); nan for n = 0.

    Example:
        >>> wilson(5, 100)
        Interval(low=0.0215..., high=0.1117...)
    """
    return _wilson(count / n, float(n), normal_quantile(level)) if n else NO_INTERVAL


def _wilson(share: float, n: float, z: float) -> Interval:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
    # rounding may not push an end past the share itself
    return Interval(max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


def share_above(share: float, n: int | float, threshold: float) -> float:
    """Exact one-sided p that a share is no larger than a threshold; small where it is larger.

    The test that Clopper and Pearson's lower end inverts (1934, Biometrika 26). Wilson's lower end
    lies too high where few samples count.

    Args:
        share: as measured, 0..1.
        n: independent samples, or how many would tell as much.
        threshold: 0..1.

    Example:
        >>> round(share_above(1 / 174, 174, 0.001), 3)
        0.16
    """
    if isnan(share) or not n > 0:
        return nan
    count = share * n
    return 1.0 if count <= 0 else float(special.betainc(count, n - count + 1, threshold))


def share_interval(
    share: float,
    n: int,
    error: float,
    freedom: Freedom,
    *,
    level: float = 0.95,
    fractions: bool = False,
) -> Interval:
    """Wilson's interval of a share whose samples are not independent.

    n is replaced by the size of an independent sample with the same standard error (Kish's
    effective sample size), never by more than n; the normal quantile by Student's t. A share of 0
    or 1 shows no error to go by: give the number of independent samples as n then. The mean of
    ``fractions`` of samples, as of several draws each, may be worth more than n.

    Example:
        >>> share_interval(0.05, 100, error=0.0, freedom=10**6)  # worth 100 samples at most
        Interval(low=0.0215..., high=0.1117...)
    """
    if n == 0 or isnan(share) or isnan(error) or freedom <= 0:
        return NO_INTERVAL
    spread = share * (1 - share)
    effective = float(n)
    if error > 0 and spread > 0:
        worth = spread / error**2
        effective = worth if fractions else min(effective, worth)
    return _wilson(share, effective, t_quantile(level, freedom))
