"""Ranks from 1 of values that may be tied, and what else is read from one sort of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float, Int


class Ranked:
    """Values sorted once, each among those of its group.

    Args:
        values: one number a sample.
        groups: the group of each sample, numbered from 0; None for one group.

    Example:
        >>> Ranked(torch.tensor([3.0, 1.0, 3.0])).ranks()
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
        >>> Ranked(torch.tensor([3.0, 1.0, 3.0]), torch.tensor([0, 1, 1])).ranks()
        tensor([1., 1., 2.], dtype=torch.float64)
    """

    def __init__(
        self, values: Float[Tensor, " samples"], groups: Int[Tensor, " samples"] | None = None
    ) -> None:
        self.n, self._groups = len(values), groups
        ordered, origin = values.sort()
        if groups is not None:
            of_group, again = groups[origin].sort(stable=True)
            ordered, origin = ordered[again], origin[again]
        new = ordered[1:] != ordered[:-1]
        if groups is not None:
            new |= of_group[1:] != of_group[:-1]
        place = torch.zeros_like(origin)
        torch.cumsum(new, 0, out=place[1:])
        self._ties = int(place[-1]) + 1 if self.n else 0
        self._origin, self._in_order = origin, place
        # which set of equal values each sample is in, the smallest first
        self._place = torch.empty_like(place).scatter_(0, origin, place)

    def ranks(self) -> Float[Tensor, " samples"]:
        """From 1, ties sharing their mean."""
        return self.below(None) + 0.5

    def below(self, marks: Bool[Tensor, " samples"] | None) -> Float[Tensor, " samples"]:
        """For each sample how many marked ones of its group lie below it, ties counting half.

        None for all samples, of which each one ties with itself.
        """
        marked = self._place if marks is None else self._place[marks]
        counts = torch.bincount(marked, minlength=self._ties).double()
        under = (counts.cumsum(0) - counts / 2)[self._place]
        if self._groups is None:
            return under
        groups = self._groups if marks is None else self._groups[marks]
        sizes = torch.bincount(groups, minlength=int(self._groups.max()) + 1).double()
        return under - (sizes.cumsum(0) - sizes)[self._groups]

    def weight_above(self, weights: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
        """For each sample the sum of the weights of those above it, ties counting half."""
        sums = torch.zeros(self._ties, dtype=torch.float64, device=weights.device)
        sums.index_add_(0, self._in_order, weights[self._origin].double())
        return (sums.sum() - sums.cumsum(0) + sums / 2)[self._place]


def ranks(values: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Ranks from 1, ties sharing their mean.

    Example:
        >>> ranks(torch.tensor([3.0, 1.0, 3.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    return Ranked(values).ranks()


def mark_ranks(marks: Bool[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """The ranks of marks, of which those that are not set come first; without sorting them.

    Example:
        >>> mark_ranks(torch.tensor([True, False, True]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    n, high = len(marks), int(marks.sum())
    low = n - high
    return torch.where(marks, low + (high + 1) / 2, (low + 1) / 2).double()
