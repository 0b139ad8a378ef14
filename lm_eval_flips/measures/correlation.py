"""Do KL-divergence and flips tell the same story? Rank correlation, and KL as a flip detector.

Spearman's correlation is the paper's (arXiv 2407.09141, figure of flips against KL). It is computed
here on tensors, so that it runs on the GPU where the harness gathered the samples; the tests hold
it equal to scipy's. Its interval is Bonett and Wright's (2000, Psychometrika 65, eq. 3). The area
under the ROC curve has DeLong's standard error (1988, Biometrics 44).

Both are means over samples to first order: each sample's influence is what it adds. Where samples
are not independent, the error of the mean influence tells how much wider an interval is (Miller
2024, "Adding Error Bars to Evals", section 2.2, for the means themselves).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import atanh, isnan, nan, sqrt, tanh
from typing import NamedTuple

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, normal_quantile
from lm_eval_flips.shapes import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spearman:
    """Spearman's rank correlation of n pairs; nan where a side is constant or holds a nan.

    ``interval`` is the 95 % interval: of independent pairs unless a row gave its own.
    """

    n: int
    statistic: float
    interval: Interval = NO_INTERVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Auroc:
    """The chance that a positive sample scores above a negative one; nan where one is missing.

    ``interval`` is the 95 % interval: of independent samples unless a row gave its own.
    """

    positives: int
    negatives: int
    statistic: float
    standard_error: float
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


def auroc_interval(area: Auroc, *, level: float = 0.95, wider: float = 1.0) -> Interval:
    """DeLong's interval, cut to 0..1; nan for fewer than two of a class, or no overlap.

    Args:
        area: the area and its standard error.
        level: of the interval.
        wider: how many times wider than independent samples make it.

    Example:
        >>> auroc_interval(Auroc(positives=9, negatives=9, statistic=0.7, standard_error=0.1))
        Interval(low=0.5040..., high=0.8959...)
    """
    unknown = isnan(wider) or not area.standard_error > 0
    if min(area.positives, area.negatives) < 2 or unknown:
        return NO_INTERVAL
    half = normal_quantile(level) * wider * area.standard_error
    return Interval(max(0.0, area.statistic - half), min(1.0, area.statistic + half))


def ranks(values: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Ranks from 1, ties sharing their mean.

    Example:
        >>> import torch
        >>> ranks(torch.tensor([3.0, 1.0, 3.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    ordered, origin = values.sort()
    _, place, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    shared = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return torch.empty_like(shared[place]).scatter_(0, origin, shared[place])


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


def auroc(
    *,
    score: Float[Tensor, " samples"],
    positive: Bool[Tensor, " samples"],
    tasks: Int[Tensor, " samples"] | None = None,
) -> Auroc:
    """How well a score (choice_kl) tells the positive samples (the flips) from the others.

    Args:
        score: one number a sample.
        positive: which samples the score should tell apart.
        tasks: the task of each sample, by number: only pairs within one are held against each
            other, all alike, since scores of two tasks may differ more than a flip makes them.
            None for a single task.

    Example:
        >>> import torch
        >>> auroc(
        ...     score=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        ...     positive=torch.tensor([False, False, True, True]),
        ... ).statistic
        1.0
    """
    p, n = int(positive.sum()), int((~positive).sum())
    parts = [] if score.isnan().any() else _within(score, positive, tasks)
    if not parts:
        return Auroc(positives=p, negatives=n, statistic=nan, standard_error=nan)
    pairs = sum(part.pairs for part in parts)
    area = sum(part.pairs * float(part.above.mean()) for part in parts) / pairs
    error = nan
    if p > 1 and n > 1 and len(parts) == 1:
        (only,) = parts
        error = sqrt(float(only.above.var()) / p + float(only.below.var()) / n)
    elif p > 1 and n > 1:
        influence = auroc_influence(score, positive, tasks)
        error = sqrt(float(influence.var()) / len(score))
    found = Auroc(positives=p, negatives=n, statistic=area, standard_error=error)
    return replace(found, interval=auroc_interval(found))


class _Part(NamedTuple):
    """A task's placements, of its positives (above) and negatives (below), and their rows."""

    above: Tensor
    below: Tensor
    positives: Tensor
    negatives: Tensor

    @property
    def pairs(self) -> int:
        """Pairs of a positive and a negative sample."""
        return len(self.above) * len(self.below)


def _within(score: Tensor, positive: Tensor, tasks: Tensor | None) -> list[_Part]:
    """The parts of those tasks that have samples of both kinds."""
    rows = torch.arange(len(score), device=score.device)
    parts = [rows]
    if tasks is not None:
        _, numbers = torch.unique(tasks, return_inverse=True)
        parts = [rows[numbers == number] for number in range(int(numbers.max()) + 1)]
    found = []
    for own in parts:
        marked = positive[own]
        if 0 < int(marked.sum()) < len(marked):
            found.append(_Part(*_placements(score[own], marked), own[marked], own[~marked]))
    return found


def _placements(score: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """For each positive the share of negatives below it (ties half), and the reverse.

    The means of both are the area, their variances are DeLong's error.
    """
    everywhere = ranks(score)
    marked, others = everywhere[positive], everywhere[~positive]
    above = (marked - ranks(score[positive])) / max(len(others), 1)
    below = 1 - (others - ranks(score[~positive])) / max(len(marked), 1)
    return above, below


def auroc_influence(
    score: Float[Tensor, " samples"],
    positive: Bool[Tensor, " samples"],
    tasks: Int[Tensor, " samples"] | None = None,
) -> Float[Tensor, " samples"]:
    """What each sample adds to the area under the ROC curve, to first order; their mean is 0.

    Args:
        score: one number a sample.
        positive: which samples the score should tell apart; at least one of each kind in a task.
        tasks: the task of each sample, by number, as for ``auroc``.

    Example:
        >>> score = torch.tensor([0.1, 0.2, 0.3, 0.4])
        >>> auroc_influence(score, torch.tensor([True, False, True, False])).tolist()
        [-0.5, 0.5, 0.5, -0.5]
    """
    parts = _within(score, positive, tasks)
    pairs = sum(part.pairs for part in parts)
    area = sum(part.pairs * float(part.above.mean()) for part in parts) / pairs
    influence = torch.zeros(len(score), dtype=torch.float64, device=score.device)
    scale = len(score) / pairs
    for part in parts:
        influence[part.positives] = (part.above - area) * (len(part.below) * scale)
        influence[part.negatives] = (part.below - area) * (len(part.above) * scale)
    return influence


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
