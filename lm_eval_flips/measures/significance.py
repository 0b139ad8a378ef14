"""Intervals and tests for paired samples.

Distribution functions are scipy.special's, which scipy.stats itself calls: importing scipy.stats
takes as long as reading the logs of 30,000 samples. The tests hold every result equal to
scipy.stats or statsmodels.

Errors of means over samples that are not independent are in ``clustered``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import isnan, nan
from typing import NamedTuple, TypeAlias

from scipy import special

Freedom: TypeAlias = int | float  # Satterthwaite's degrees of freedom are no whole numbers


class Interval(NamedTuple):
    """A confidence interval; both ends nan where there is none."""

    low: float
    high: float


NO_INTERVAL = Interval(nan, nan)


@lru_cache
def normal_quantile(level: float) -> float:
    """Half the width, in standard errors, of the middle ``level`` of the normal distribution.

    Example:
        >>> round(normal_quantile(0.95), 4)
        1.96
    """
    return float(special.ndtri(0.5 + level / 2))


def normal_share(quantile: float) -> float:
    """Share of the normal distribution that lies below a number of standard errors.

    Example:
        >>> round(normal_share(1.96), 4)
        0.975
    """
    return float(special.ndtr(quantile))


# the rows of many tasks ask the same again and again
@lru_cache(maxsize=1 << 14)
def t_quantile(level: float, freedom: Freedom) -> float:
    """Half the width of the middle ``level`` of Student's t distribution.

    Example:
        >>> round(t_quantile(0.95, 10), 4)
        2.2281
    """
    return float(special.stdtrit(freedom, 0.5 + level / 2))


def t_test(change: float, error: float, freedom: Freedom) -> float:
    """Two-sided p of Student's t test that a change with this standard error is none.

    nan without an error, or where nothing moved at all.

    Example:
        >>> round(t_test(2.2281, 1.0, 10), 4)
        0.05
    """
    return 2 * t_loss(-abs(change), error, freedom)


def t_loss(change: float, error: float, freedom: Freedom) -> float:
    """One-sided p of the same: small where the change is below 0.

    Example:
        >>> round(t_loss(-1.8125, 1.0, 10), 4)
        0.05
    """
    if isnan(error) or isnan(change) or freedom <= 0 or (error == 0 and change == 0):
        return nan
    if not error:
        return 0.0 if change < 0 else 1.0
    return float(special.stdtr(freedom, change / error))


def mcnemar(*, lost: int, won: int) -> float:
    """Two-sided exact McNemar p: a binomial test of the discordant pairs at 1/2.

    nan where no pair is discordant: there is nothing to test then, which is no evidence of
    equality.

    Example:
        >>> round(mcnemar(lost=9, won=1), 4)
        0.0215
    """
    if lost + won == 0:
        return nan
    # at 1/2 both tails are alike
    return min(1.0, 2 * float(special.bdtr(min(lost, won), lost + won, 0.5)))


def mcnemar_loss(*, lost: int, won: int) -> float:
    """One-sided exact McNemar p: small where more is lost than won (arXiv 2602.10144).

    nan where no pair is discordant.

    Example:
        >>> round(mcnemar_loss(lost=9, won=1), 4)
        0.0107
    """
    if lost + won == 0:
        return nan
    return float(special.bdtr(won, lost + won, 0.5))


def binomial_test(count: int, n: int, share: float) -> float:
    """Exact two-sided binomial p of a count of n: twice the smaller tail, at most 1.

    nan for no trials, or a share that leaves nothing to chance.

    Example:
        >>> binomial_test(9, 10, 0.5) == mcnemar(lost=9, won=1)
        True
    """
    if not n or not 0 < share < 1:
        return nan
    below = float(special.bdtr(count, n, share))
    above = 1.0 if count == 0 else float(special.bdtrc(count - 1, n, share))
    return min(1.0, 2 * min(below, above))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment of several p-values (1979, Scand. J. Stat. 6).

    Each may be held against the level of a single test. nan stays nan and counts for nothing.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not isnan(p))
    adjusted = [nan] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        adjusted[place] = largest
    return adjusted


def mean_interval(mean: float, error: float, freedom: Freedom, *, level: float = 0.95) -> Interval:
    """Student's t interval around a mean with a given standard error.

    Example:
        >>> mean_interval(0.0, 1.0, 10)
        Interval(low=-2.228..., high=2.228...)
    """
    if isnan(error) or isnan(mean) or freedom <= 0:
        return NO_INTERVAL
    half = t_quantile(level, freedom) * error
    return Interval(mean - half, mean + half)
