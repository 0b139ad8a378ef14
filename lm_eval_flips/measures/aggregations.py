"""Scores that are no means: what the harness makes of right and given answers, and of lists.

By their standard definitions, which the harness takes from scikit-learn (lm_eval 0.4.13,
api/metrics.py:50-130).
"""

from __future__ import annotations

from math import nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float, Int


def matthews(gold: Int[Tensor, " n"], given: Int[Tensor, " n"]) -> float:
    """Matthews' correlation of right and given answers; 0 where either is constant.

    Of any number of classes (Gorodkin 2004, Computational Biology and Chemistry 28:367).

    Example:
        >>> matthews(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))
        0.5773502691896258
    """
    n = len(gold)
    if not n:
        return nan
    classes = torch.cat([gold, given]).unique()  # type: ignore[no-untyped-call]
    right, said = ((side[:, None] == classes).double() for side in (gold, given))
    counts = right.sum(0), said.sum(0)
    together = n * (right * said).sum() - counts[0] @ counts[1]
    spread = (n * n - counts[0].square().sum()) * (n * n - counts[1].square().sum())
    return float(together / spread.sqrt()) if spread > 0 else 0.0


def f1(gold: Int[Tensor, " n"], given: Int[Tensor, " n"]) -> float:
    """F1 of the label 1; 0 where nothing is 1.

    Example:
        >>> f1(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 0]))
        0.6666666666666666
    """
    if not len(gold):
        return nan
    both = float(((gold == 1) & (given == 1)).sum())
    either = float((gold == 1).sum() + (given == 1).sum())
    return 2 * both / either if either else 0.0


def brier(gold: Int[Tensor, " n"], probabilities: Float[Tensor, "n k"]) -> float:
    """Mean squared distance of probabilities from the right answer's 1; nan ones count as none.

    Example:
        >>> brier(torch.tensor([0]), torch.tensor([[0.5, 0.5]]))
        0.5
    """
    if not len(gold):
        return nan
    held = probabilities.double().nan_to_num(0.0)
    right = torch.zeros_like(held).scatter_(1, gold[:, None], 1.0)
    return float((held - right).square().sum(-1).mean())


def flat_mean(parts: Float[Tensor, "n k"]) -> float:
    """Mean over all parts of all samples, nan beyond a sample's own.

    Example:
        >>> flat_mean(torch.tensor([[1.0, 0.0], [1.0, torch.nan]]))
        0.6666666666666666
    """
    return float(parts.double().nanmean())
