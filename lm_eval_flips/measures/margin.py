"""The baseline's top margin, and how it predicts which answers change.

Top margin: the best choice's probability minus the second best's, in the baseline (arXiv
2407.09141, section 5: the chance that an answer changes falls steeply with it, and incorrect
answers, whose margins are smaller, change far more often).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.shapes import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many of ``n`` answers changed; ``interval`` is the 95 % interval of the share."""

    n: int
    changed: int
    interval: Interval = NO_INTERVAL

    @property
    def share(self) -> float:
        """Changed answers as a share of n; nan for none."""
        return self.changed / self.n if self.n else nan


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginBin:
    """The answers whose top margin lies in [low, high); the last bin includes 1."""

    low: float
    high: float
    rate: Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """Top margins (0..1) of the baseline's correct and incorrect answers, and who changed."""

    mean_correct: float
    mean_incorrect: float
    correct: Rate
    incorrect: Rate
    bins: tuple[MarginBin, ...]


def top_margin(
    loglikelihoods: Float[Tensor, "samples choices"],
) -> Float[Tensor, " samples"]:
    """Probability of the best choice minus that of the second best, ``[samples]``, 0..1.

    1 for a sample with a single choice.

    Example:
        >>> import torch
        >>> top_margin(torch.tensor([[0.6, 0.3, 0.1]]).log())
        tensor([0.3000], dtype=torch.float64)
    """
    p = loglikelihoods.double().softmax(-1)
    if p.shape[-1] < 2:
        return torch.ones(len(p), dtype=torch.float64, device=p.device)
    best = p.topk(2, dim=-1).values
    return best[:, 0] - best[:, 1]


def margin_place(margin: Float[Tensor, " samples"], *, bins: int = 10) -> Int[Tensor, " samples"]:
    """Which of some equally wide bins each margin (0..1) lies in; 1 in the last.

    Example:
        >>> margin_place(torch.tensor([0.0, 0.1, 1.0]))
        tensor([0, 1, 9])
    """
    return (margin * bins).long().clamp(0, bins - 1)


def margins(
    *,
    margin: Float[Tensor, " samples"],
    correct: Bool[Tensor, " samples"],
    changed: Bool[Tensor, " samples"],
    bins: int = 10,
) -> Margins:
    """Relate the baseline's top margins to its correctness and to the answers that changed.

    Args:
        margin: the baseline's top margin of each sample, 0..1.
        correct: whether the baseline's answer is right.
        changed: whether the compressed run's answer differs.
        bins: number of equally wide margin bins.

    Example:
        >>> import torch
        >>> m = margins(
        ...     margin=torch.tensor([0.1, 0.9]),
        ...     correct=torch.tensor([False, True]),
        ...     changed=torch.tensor([True, False]),
        ...     bins=2,
        ... )
        >>> m.incorrect.share, m.bins[0].rate.share, m.bins[1].rate.share
        (1.0, 1.0, 0.0)
    """
    place = margin_place(margin, bins=bins)
    totals = torch.bincount(place, minlength=bins).tolist()
    moved = torch.bincount(place[changed], minlength=bins).tolist()
    return Margins(
        mean_correct=float(margin[correct].mean()),
        mean_incorrect=float(margin[~correct].mean()),
        correct=Rate(n=int(correct.sum()), changed=int((correct & changed).sum())),
        incorrect=Rate(n=int((~correct).sum()), changed=int((~correct & changed).sum())),
        bins=tuple(
            MarginBin(low=i / bins, high=(i + 1) / bins, rate=Rate(n=totals[i], changed=moved[i]))
            for i in range(bins)
        ),
    )
