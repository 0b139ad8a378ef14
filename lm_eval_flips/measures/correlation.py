"""Do KL-divergence and flips tell the same story? Rank correlation, and KL as a flip detector.

Spearman's correlation is the paper's (arXiv 2407.09141, figure of flips against KL). It is computed
here on tensors, so that it runs on the GPU where the harness gathered the samples; the tests hold
it equal to scipy's. Its interval is Bonett and Wright's (2000, Psychometrika 65, eq. 3). The area
under the ROC curve has DeLong's standard error (1988, Biometrics 44).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import atanh, nan, sqrt, tanh

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, normal_quantile
from lm_eval_flips.shapes import Bool, Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Spearman:
    """Spearman's rank correlation of n pairs; nan where a side is constant or holds a nan."""

    n: int
    statistic: float

    def interval(self, *, level: float = 0.95) -> Interval:
        """Interval on Fisher's scale; nan for fewer than four pairs or a perfect correlation."""
        if self.n < 4 or not abs(self.statistic) < 1:
            return NO_INTERVAL
        half = normal_quantile(level)
        half *= sqrt((1 + self.statistic**2 / 2) / (self.n - 3))
        centre = atanh(self.statistic)
        return Interval(tanh(centre - half), tanh(centre + half))


@dataclass(frozen=True, slots=True, kw_only=True)
class Auroc:
    """The chance that a positive sample scores above a negative one; nan where one is missing."""

    positives: int
    negatives: int
    statistic: float
    standard_error: float

    def interval(self, *, level: float = 0.95) -> Interval:
        """DeLong's interval, cut to 0..1; nan for fewer than two of a class, or no overlap."""
        if min(self.positives, self.negatives) < 2 or not self.standard_error > 0:
            return NO_INTERVAL
        half = normal_quantile(level) * self.standard_error
        return Interval(max(0.0, self.statistic - half), min(1.0, self.statistic + half))


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
    return Spearman(n=n, statistic=float(a @ b) / scale if scale else nan)


def auroc(*, score: Float[Tensor, " samples"], positive: Bool[Tensor, " samples"]) -> Auroc:
    """How well a score (choice_kl) tells the positive samples (the flips) from the others.

    Example:
        >>> import torch
        >>> auroc(
        ...     score=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        ...     positive=torch.tensor([False, False, True, True]),
        ... ).statistic
        1.0
    """
    p, n = int(positive.sum()), int((~positive).sum())
    if p == 0 or n == 0 or score.isnan().any():
        return Auroc(positives=p, negatives=n, statistic=nan, standard_error=nan)
    everywhere = ranks(score)
    # For each positive the share of negatives below it (ties half), for each negative the share of
    # positives above it: their means are both the area, their variances are DeLong's error.
    above = (everywhere[positive] - ranks(score[positive])) / n
    below = 1 - (everywhere[~positive] - ranks(score[~positive])) / p
    error = nan
    if p > 1 and n > 1:
        error = sqrt(float(above.var()) / p + float(below.var()) / n)
    return Auroc(positives=p, negatives=n, statistic=float(above.mean()), standard_error=error)
