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

from torch import Tensor

from lm_eval_flips.measures.auroc import Auroc
from lm_eval_flips.measures.ranks import Ranked, ranks
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
    if x.numel() < 2 or x.isnan().any() or y.isnan().any():
        return Spearman(n=x.numel(), statistic=nan)
    return of_ranks(ranks(x), ranks(y))


def of_ranks(x: Float[Tensor, " samples"], y: Float[Tensor, " samples"]) -> Spearman:
    """``spearman`` of two measurements whose ranks are known.

    Example:
        >>> import torch
        >>> of_ranks(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.5, 2.5])).statistic
        0.866...
    """
    n = x.numel()
    if n < 2:
        return Spearman(n=n, statistic=nan)
    a, b = x - x.mean(), y - y.mean()
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
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> spearman_influence(x, x).abs().max() < 1e-12  # a perfect correlation stays one
        tensor(True)
    """
    one, other = Ranked(x), Ranked(y)
    f, g = _middle(one), _middle(other)
    covariance, own, of_other = f * g, f * f, g * g
    moved = covariance + _shifted(one, g) + _shifted(other, f) - 3 * covariance.mean()
    own_moved = own + 2 * _shifted(one, f) - 3 * own.mean()
    other_moved = of_other + 2 * _shifted(other, g) - 3 * of_other.mean()
    scale = (own.mean() * of_other.mean()).sqrt()
    statistic = covariance.mean() / scale
    return moved / scale - statistic / 2 * (own_moved / own.mean() + other_moved / of_other.mean())


def _middle(ranked: Ranked) -> Tensor:
    """The mid-distribution function at each value, minus a half."""
    return (ranked.ranks() - 0.5) / ranked.n - 0.5


def _shifted(ranked: Ranked, weights: Tensor) -> Tensor:
    """For each sample the mean weight of the samples above it, ties counting half."""
    return ranked.weight_above(weights) / ranked.n
