"""The change of a share measured twice on the same samples: MOVER.

The limits of the share lost and of the share won are recovered from Wilson's intervals and put
together (method of variance estimates recovery: Newcombe 1998, Stat. Med. 17, 2635-2650; Zou and
Donner 2008, Stat. Med. 27, 1693-1702). Unlike a Wald interval it keeps its level where few samples
moved, all of them in one direction. Clusters and strata enter by effective sample sizes (Kish 1965)
and by the correlation of the two shares' errors.
"""

from __future__ import annotations

from math import isnan, sqrt

from lm_eval_flips.measures.shares import share_interval
from lm_eval_flips.measures.significance import NO_INTERVAL, Freedom, Interval

INDEPENDENT = 10**9  # degrees of freedom at which t is the normal


def mover(*, lost: int, won: int, n: int, level: float = 0.95) -> Interval:
    """Interval of ``(won - lost) / n`` of n independent samples, each lost, won or neither.

    Args:
        lost: samples that count -1.
        won: samples that count +1.
        n: all samples.
        level: of the interval, 0..1.

    Example:
        >>> mover(lost=6, won=2, n=100)
        Interval(low=-0.1068..., high=0.0204...)
    """
    if n == 0:
        return NO_INTERVAL
    p, q = lost / n, won / n
    errors = [sqrt(share * (1 - share) / n) for share in (p, q)]
    difference = sqrt(max(0.0, p + q - (p - q) ** 2) / n)
    return mover_interval(
        lost=p,
        won=q,
        n=n,
        errors=(errors[0], errors[1], difference),
        freedom=INDEPENDENT,
        level=level,
    )


def mover_interval(
    *,
    lost: float,
    won: float,
    n: int,
    errors: tuple[float, float, float],
    freedom: Freedom,
    level: float = 0.95,
) -> Interval:
    """Interval of ``won - lost``, two shares of the same samples, from their standard errors.

    Args:
        lost: share of samples that count -1, 0..1.
        won: share of samples that count +1, 0..1.
        n: number of independent samples (or clusters) at most: what a share without any error, as
            of no sample, is worth.
        errors: standard errors of lost, of won, and of their difference, which follow the samples;
            0 where nothing moved, or every cluster alike.
        freedom: degrees of freedom of the errors.
        level: of the interval, 0..1.

    Example:
        >>> mover_interval(lost=0.02, won=0.0, n=500, errors=(0.00626, 0.0, 0.00626), freedom=495)
        Interval(low=-0.0364..., high=-0.0080...)
    """
    if n == 0 or freedom <= 0 or any(map(isnan, (lost, won, *errors))):
        return NO_INTERVAL
    minus = share_interval(lost, n, errors[0], freedom, level=level)
    plus = share_interval(won, n, errors[1], freedom, level=level)
    alike = _correlation(*errors)
    down = _square_and_add(won - plus.low, minus.high - lost, alike)
    up = _square_and_add(plus.high - won, lost - minus.low, alike)
    return Interval(max(-1.0, won - lost - down), min(1.0, won - lost + up))


def _square_and_add(first: float, second: float, correlation: float) -> float:
    return sqrt(max(0.0, first**2 + second**2 - 2 * correlation * first * second))


def _correlation(lost: float, won: float, difference: float) -> float:
    """Of the errors of two shares, from that of their difference; 0 where one has none."""
    product = 2 * lost * won
    if product <= 0:
        return 0.0
    return min(1.0, max(-1.0, (lost**2 + won**2 - difference**2) / product))
