"""The area under the ROC curve: how well a distance tells flips from other samples.

Its standard error is DeLong's (1988, Biometrics 44).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isnan, nan, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from lm_eval_flips.measures.ranks import ranks
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, normal_quantile
from lm_eval_flips.shapes import Bool, Float, Int


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
