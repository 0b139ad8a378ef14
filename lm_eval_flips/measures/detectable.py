"""Which change of the score a row's own test would find: its power, not a formula's."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, inf, isnan, nan, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lm_eval_flips.measures.significance import Freedom, t_quantile

LEVEL = 0.05
FAR = 8.0  # standard deviations of a count, beyond which nothing is


def mcnemar_power(*, lost: float, won: float, n: int) -> float:
    """Chance that exact McNemar, two-sided at 5 %, finds a change of ``won - lost``.

    Args:
        lost: share of samples lost, in truth, 0..1.
        won: share of samples won, in truth, 0..1.
        n: independent samples.

    Example:
        >>> round(mcnemar_power(lost=0.039, won=0.0, n=100), 2)
        0.2
    """
    moved = lost + won
    if not moved > 0 or n == 0:
        return 0.0
    spread = FAR * sqrt(n * moved * (1 - moved)) + FAR
    counts = np.arange(max(0, floor(n * moved - spread)), min(n, ceil(n * moved + spread)) + 1)
    chance = _binomial(counts, n, moved)
    most = _rejected(counts)
    share = lost / moved
    # bdtr of a count below 0 is nan: no outcome of so few pairs is enough
    low = np.where(most >= 0, special.bdtr(np.maximum(most, 0), counts, 1 - share), 0.0)
    high = np.where(most >= 0, special.bdtr(np.maximum(most, 0), counts, share), 0.0)
    return float((chance * np.minimum(1.0, low + high)).sum())


# the tasks of many runs ask the same again and again
@lru_cache(maxsize=1 << 16)
def mcnemar_detectable(*, flips: float, n: int, power: float = 0.8) -> float:
    """The smallest change of the score, 0..1, that exact McNemar finds with this power.

    A change up to the share of flips is taken as a shift among them, a larger one as losses only.

    Args:
        flips: share of samples that flipped.
        n: independent samples.
        power: 0..1.

    Returns:
        nan where no change is found with this power, as in a handful of samples.

    Example:
        >>> round(mcnemar_detectable(flips=0.0, n=100), 3)
        0.078
    """

    def power_of(change: float) -> float:
        moved = max(flips, change)
        return mcnemar_power(lost=(moved + change) / 2, won=(moved - change) / 2, n=n)

    low, high = 0.0, 1.0
    if n == 0 or isnan(flips) or power_of(high) < power:
        return nan
    while high - low > 1e-5:
        middle = (low + high) / 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


def t_detectable(error: float, freedom: Freedom, *, power: float = 0.8) -> float:
    """The smallest change that Student's t test at 5 % finds with this power, about.

    nan without an error.

    Example:
        >>> round(t_detectable(0.01, 10**6), 3)
        0.028
    """
    if isnan(error) or not error > 0 or freedom <= 0:
        return nan
    return error * (t_quantile(1 - LEVEL, freedom) + t_quantile(2 * power - 1, freedom))


def _binomial(counts: NDArray[np.int64], n: int, share: float) -> NDArray[np.float64]:
    """Chance of each count."""
    if share >= 1:
        only: NDArray[np.float64] = (counts == n).astype(np.float64)
        return only
    logs = special.gammaln(n + 1) - special.gammaln(counts + 1) - special.gammaln(n - counts + 1)
    chances: NDArray[np.float64] = np.exp(
        logs + counts * np.log(share) + (n - counts) * np.log1p(-share)
    )
    return chances


def _rejected(pairs: NDArray[np.int64]) -> NDArray[np.float64]:
    """The most of the rarer kind at which so many discordant pairs are told from a fair coin.

    -1 where none is.
    """
    # the normal's quantile is within one of the binomial's, and found ten times as fast
    start = np.floor((pairs - 1 - t_quantile(1 - LEVEL, inf) * np.sqrt(pairs)) / 2)
    most: NDArray[np.float64] = np.full(len(pairs), -1.0)
    for shift in (-1, 0, 1):
        tried = start + shift
        fits = (tried >= 0) & (pairs > 0)
        safe = np.maximum(tried, 0)
        enough = fits & (special.bdtr(safe, np.maximum(pairs, 1), 0.5) <= LEVEL / 2)
        most = np.where(enough, np.maximum(most, tried), most)
    return most
