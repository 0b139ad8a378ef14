"""The interval of a mean of distances: none is below 0, and a few samples rule the mean.

Student's t is off on both sides there, most where the largest values are still to come: of real
8-bit models' KLs its upper end is too low in up to a fifth of all draws of 100 samples. Here the
low end is that of the logarithm (delta method). The upper end asks what one sample more could
bring: a value as rare as one in nine times as many samples, extrapolated from the ten largest
(Hill 1975, Ann. Stat. 3, 1163-1174; Weissman 1978, J. Am. Stat. Assoc. 73, 812-815). It shifts
the mean and widens the error. Both vanish as samples are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, isnan, log, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Freedom, Interval, t_quantile
from lm_eval_flips.shapes import Float

LARGEST = 10  # values that tell how a tail falls
RARER = 9.0  # times as rare as the largest of all values
STEEPEST = 2.0  # of tails: one value 9^2 times the largest


def distance_interval(
    mean: float, error: float, freedom: Freedom, *, more: float = 0.0, level: float = 0.95
) -> Interval:
    """Interval of a mean of distances.

    Args:
        mean: in any unit, not below 0.
        error: its standard error, which follows the samples.
        freedom: degrees of freedom of the error.
        more: by how much one sample more may raise the mean, as ``one_more`` tells.
        level: of the interval, 0..1.

    Returns:
        nan at both ends for a mean that is infinite or without an error.

    Example:
        >>> distance_interval(0.1, 0.02, 99, more=0.01)
        Interval(low=0.0672..., high=0.1543...)
    """
    if not isfinite(mean) or isnan(error) or freedom <= 0:
        return NO_INTERVAL
    far = t_quantile(level, freedom)
    low = mean * exp(-far * error / mean) if mean > 0 else 0.0
    return Interval(low, mean + more + far * sqrt(error**2 + more**2))


def one_more(values: Float[Tensor, " units"], *, samples: int) -> float:
    """By how much one independent unit more, rarer than all that are there, would raise the mean.

    Args:
        values: the sum of each independent unit: of a sample, or of a cluster's samples.
        samples: all samples that the mean is over.

    Example:
        >>> import torch
        >>> round(one_more(torch.arange(1.0, 101.0), samples=100), 2)
        0.63
    """
    return one_more_of_each(values[None], samples=samples)[0]


def one_more_of_each(values: Float[Tensor, "columns units"], *, samples: int) -> list[float]:
    """``one_more`` of each of several distances of the same units.

    Example:
        >>> one_more_of_each(torch.ones(2, 50), samples=50)
        [0.0, 0.0]
    """
    columns, units = values.shape
    if not units:
        return [0.0] * columns
    exact = values.double()
    known = torch.where(exact.isfinite() & (exact > 0), exact, 0.0)
    largest = known.topk(min(LARGEST + 1, units), dim=-1).values
    # one read from a GPU
    read = torch.cat([exact.mean(-1, keepdim=True), largest], dim=-1).tolist()
    return [_one_more(mean, found, units=units, samples=samples) for mean, *found in read]


def _one_more(mean: float, largest: Sequence[float], *, units: int, samples: int) -> float:
    tail = [value for value in largest if value > 0]
    if not tail:
        return 0.0
    fall = STEEPEST / 2
    if len(tail) > 1:
        fall = min(STEEPEST, sum(log(value / tail[-1]) for value in tail[:-1]) / (len(tail) - 1))
    rare: float = tail[0] * RARER**fall
    return float(max(0.0, rare - mean)) / (samples + samples / units)
