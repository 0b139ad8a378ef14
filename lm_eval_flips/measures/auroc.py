"""The area under the ROC curve: how well a distance tells flips from other samples.

Its standard error is DeLong's (1988, Biometrics 44).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.ranks import Ranked
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
    return placements(score=score, positive=positive, tasks=tasks).auroc()


@dataclass(frozen=True, kw_only=True, eq=False)  # without slots, for the area
class Placements:
    """Where each positive sample stands among the negative ones of its task, and the reverse.

    ``above`` is the share of negatives below each positive (ties half), ``below`` the share of
    positives above each negative: the means of both are the area, their variances are DeLong's
    error. Task by task, of those tasks alone that have both; ``positives`` and ``negatives`` are
    their rows, ``sizes`` how many of either each task has. ``counts`` are of all tasks.
    """

    above: Tensor
    below: Tensor
    positives: Tensor
    negatives: Tensor
    sizes: tuple[tuple[int, int], ...]
    counts: tuple[int, int]
    n: int

    @property
    def _pairs(self) -> int:
        """Pairs of a positive and a negative sample of one task."""
        return sum(p * n for p, n in self.sizes)

    @cached_property
    def area(self) -> float:
        """The area, over the pairs within tasks; nan without any."""
        if not self.sizes:
            return nan
        parts = torch.split(self.above, [p for p, _ in self.sizes])
        means = torch.stack([part.mean() for part in parts]).tolist()
        weighted = (p * n * mean for (p, n), mean in zip(self.sizes, means, strict=True))
        return float(sum(weighted)) / self._pairs

    def auroc(self) -> Auroc:
        """The area with its error and interval."""
        p, n = self.counts
        error = nan
        if p > 1 and n > 1 and self.sizes:
            if len(self.sizes) == 1:
                error = sqrt(float(self.above.var()) / p + float(self.below.var()) / n)
            else:
                error = sqrt(float(self.influence().var()) / self.n)
        found = Auroc(positives=p, negatives=n, statistic=self.area, standard_error=error)
        return replace(found, interval=auroc_interval(found))

    def influence(self) -> Float[Tensor, " samples"]:
        """What each sample adds to the area, to first order; their mean is 0."""
        scale = self.n / self._pairs
        by_task = torch.tensor(self.sizes, dtype=torch.float64, device=self.above.device) * scale
        numbers = torch.arange(len(self.sizes), device=self.above.device)
        of_each = [
            by_task[torch.repeat_interleave(numbers, torch.tensor(sizes, device=numbers.device))]
            for sizes in zip(*self.sizes, strict=True)
        ]
        influence = torch.zeros(self.n, dtype=torch.float64, device=self.above.device)
        # by how many there are of the other kind
        influence[self.positives] = (self.above - self.area) * of_each[0][:, 1]
        influence[self.negatives] = (self.below - self.area) * of_each[1][:, 0]
        return influence


def placements(
    *,
    score: Float[Tensor, " samples"],
    positive: Bool[Tensor, " samples"],
    tasks: Int[Tensor, " samples"] | None = None,
    ranked: Ranked | None = None,
) -> Placements:
    """Where the positive samples stand among the others, as for ``auroc``.

    Args:
        score: one number a sample.
        positive: which samples the score should tell apart.
        tasks: the task of each sample, by number; None for a single task.
        ranked: the scores in order, by task; None to sort them here.
    """
    numbers = torch.zeros(len(score), dtype=torch.int64, device=score.device)
    if tasks is not None:
        _, numbers = torch.unique(tasks, return_inverse=True)
    of_all = torch.bincount(numbers)
    of_marked = torch.bincount(numbers[positive], minlength=len(of_all))
    each = torch.stack([of_marked, of_all - of_marked], 1).tolist()
    both = [p > 0 and n > 0 for p, n in each]
    if score.isnan().any():
        both = [False] * len(both)
    positives, negatives = (_rows(marks, numbers, both) for marks in (positive, ~positive))
    above = below = torch.zeros(0, dtype=torch.float64, device=score.device)
    if any(both):
        ranked = ranked or Ranked(score, None if tasks is None else numbers)
        under = ranked.below(positive)
        others = of_all - of_marked
        above = (ranked.below(None) - under)[positives] / others[numbers[positives]]
        below = 1 - under[negatives] / of_marked[numbers[negatives]]
    return Placements(
        above=above,
        below=below,
        positives=positives,
        negatives=negatives,
        sizes=tuple((p, n) for (p, n), has in zip(each, both, strict=True) if has),
        counts=(int(of_marked.sum()), int((of_all - of_marked).sum())),
        n=len(score),
    )


def _rows(marks: Tensor, numbers: Tensor, both: Sequence[bool]) -> Tensor:
    """The marked rows of those tasks that have both kinds, task by task."""
    rows = marks.nonzero()[:, 0]
    if len(both) < 2:
        return rows if any(both) else rows[:0]
    kept = torch.tensor(both, device=marks.device)
    rows = rows[kept[numbers[rows]]]
    return rows[numbers[rows].sort(stable=True).indices]


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
    return placements(score=score, positive=positive, tasks=tasks).influence()
