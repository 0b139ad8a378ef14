"""Do KL-divergence and flips tell the same story? Rank correlation, and KL as a flip detector.

Spearman's correlation is the paper's (arXiv 2407.09141, figure of flips against KL). It is computed
here on tensors, so that it runs on the GPU where the harness gathered the samples; the tests hold
it equal to scipy's. Its interval is Bonett and Wright's (2000, Psychometrika 65, eq. 3).

It is a mean over samples to first order: each sample's influence is what it adds. Where samples are
not independent, the error of the mean influence tells how much wider an interval is (Miller 2024,
"Adding Error Bars to Evals", section 2.2, for the means themselves).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, isnan, nan, sqrt, tanh

import torch
from torch import Tensor

from lm_eval_flips.measures.auroc import Auroc
from lm_eval_flips.measures.ranks import ranks
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, normal_quantile
from lm_eval_flips.shapes import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spearman:
    """Spearman's rank correlation of n pairs; nan where a side is constant or holds a nan.

    ``interval`` is the 95 % interval: of independent pairs unless a row gave its own.
    """

    n: int
    statistic: float
    interval: Interval = NO_INTERVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCorrelation:
    """How a distance relates, sample by sample, to the answers that changed and that flipped."""

    changed: Spearman
    flipped: Spearman
    detects_flips: Auroc


def spearman_interval(
    statistic: float, n: int, *, level: float = 0.95, wider: float = 1.0
) -> Interval:
    """Bonett and Wright's interval of a rank correlation, on Fisher's scale.

    Args:
        statistic: Spearman's correlation.
        n: number of pairs.
        level: of the interval.
        wider: how many times wider than independent pairs make it, on Fisher's scale.

    Returns:
        nan for fewer than four pairs or a perfect correlation.

    Example:
        >>> spearman_interval(0.5, 28)
        Interval(low=0.1327..., high=0.7465...)
    """
    if n < 4 or not abs(statistic) < 1 or isnan(wider):
        return NO_INTERVAL
    half = normal_quantile(level) * wider * sqrt((1 + statistic**2 / 2) / (n - 3))
    centre = atanh(statistic)
    return Interval(tanh(centre - half), tanh(centre + half))


def spearman(x: Float[Tensor, " samples"], y: Float[Tensor, " samples"]) -> Spearman:
    """Spearman's rank correlation of two measurements of the same samples.

    Example:
        >>> import torch
        >>> spearman(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 5.0])).statistic
        1.0
    """
    n = x.numel()
    if n < 2 or x.isnan().any() or y.isnan().any():
        return Spearman(n=n, statistic=nan)
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = sqrt(float(a @ a) * float(b @ b))
    statistic = float(a @ b) / scale if scale else nan
    return Spearman(n=n, statistic=statistic, interval=spearman_interval(statistic, n))


def spearman_influence(
    x: Float[Tensor, " samples"], y: Float[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    """What each pair adds to Spearman's rank correlation, to first order; their mean is 0.

    The correlation is that of the two mid-distribution functions, F and G. A pair moves it by its
    own ranks, and by the ranks of all others that it shifts (Croux and Dehon 2010, Stat. Methods
    Appl. 19, for ranks without ties).

    Args:
        x: one number a sample.
        y: another one of the same samples; neither may be constant.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> spearman_influence(x, x).abs().max() < 1e-12  # a perfect correlation stays one
        tensor(True)
    """
    f, g = _middle(x), _middle(y)
    covariance, own, other = f * g, f * f, g * g
    moved = covariance + _shifted(x, g) + _shifted(y, f) - 3 * covariance.mean()
    own_moved = own + 2 * _shifted(x, f) - 3 * own.mean()
    other_moved = other + 2 * _shifted(y, g) - 3 * other.mean()
    scale = (own.mean() * other.mean()).sqrt()
    statistic = covariance.mean() / scale
    return moved / scale - statistic / 2 * (own_moved / own.mean() + other_moved / other.mean())


def _middle(values: Tensor) -> Tensor:
    """The mid-distribution function at each value, minus a half."""
    return (ranks(values) - 0.5) / len(values) - 0.5


def _shifted(values: Tensor, weights: Tensor) -> Tensor:
    """For each sample the mean weight of the samples above it, ties counting half."""
    ordered, origin = values.sort()
    _, place, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=torch.float64, device=values.device)
    sums.index_add_(0, place, weights[origin].double())
    above = sums.sum() - sums.cumsum(0) + sums / 2
    return torch.empty_like(weights, dtype=torch.float64).scatter_(0, origin, above[place]) / len(
        values
    )
