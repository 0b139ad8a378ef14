"""MOVER where samples are independent: its errors are those of plain shares."""

from __future__ import annotations

from math import sqrt

from lm_eval_flips.measures.paired_difference import mover_interval
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval

INDEPENDENT = 10**9  # degrees of freedom at which t is the normal


def mover(*, lost: int, won: int, n: int, level: float = 0.95) -> Interval:
    """Interval of ``(won - lost) / n`` of n independent samples, each lost, won or neither.

    Args:
        lost: samples that count -1.
        won: samples that count +1.
        n: all samples.
        level: of the interval, 0..1.
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
