"""How documents were drawn: the strata, and what each drawn sample stands for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Design:
    """Which stratum each drawn sample is from, and how large the strata are.

    ``sizes`` and ``drawn`` are counts, ``[strata]``; ``stratum`` numbers each sample's from 0.
    """

    sizes: Tensor
    drawn: Tensor
    stratum: Tensor

    @property
    def documents(self) -> int:
        """Number of documents in all strata."""
        return int(self.sizes.sum())

    @property
    def shares(self) -> Float[Tensor, " strata"]:
        """Each stratum's share of all documents."""
        return self.sizes.double() / self.documents

    @property
    def weights(self) -> Float[Tensor, " samples"]:
        """How many documents each drawn sample stands for."""
        return (self.sizes.double() / self.drawn)[self.stratum]

    @property
    def factors(self) -> Float[Tensor, " strata"]:
        """What a stratum's variance contributes to the mean's, for a variance with divisor n - 1.

        0 for a stratum that was drawn whole.
        """
        return self.shares**2 * (1 - self.drawn.double() / self.sizes) / self.drawn

    def sums(self, values: Float[Tensor, " samples"]) -> Float[Tensor, " strata"]:
        """The sum of each stratum's drawn values."""
        empty = torch.zeros(len(self.sizes), dtype=torch.float64, device=values.device)
        return empty.index_add_(0, self.stratum, values.double())

    def mean(self, values: Float[Tensor, " samples"]) -> float:
        """Unbiased estimate of the mean over all documents.

        Example:
            >>> import torch
            >>> design = Design(
            ...     sizes=torch.tensor([80, 20]),
            ...     drawn=torch.tensor([2, 2]),
            ...     stratum=torch.tensor([0, 0, 1, 1]),
            ... )
            >>> design.mean(torch.tensor([0.0, 0.0, 1.0, 0.0]))
            0.1
        """
        return float((self.shares * self.sums(values) / self.drawn).sum())

    def variances(self, values: Float[Tensor, " samples"]) -> Float[Tensor, " strata"]:
        """Variance within each stratum, with divisor n - 1; 0 for a single draw."""
        centred = values.double() - (self.sums(values) / self.drawn)[self.stratum]
        return self.sums(centred**2) / (self.drawn - 1).clamp(min=1)

    def spread(self, values: Float[Tensor, " samples"]) -> float:
        """Unbiased estimate of the variance over all documents, with divisor n - 1."""
        own, shares, sizes = self.variances(values), self.shares, self.sizes.double()
        within = (shares * own * (sizes - 1) / sizes).sum()
        means = self.sums(values) / self.drawn
        between = (shares * (means - self.mean(values)) ** 2).sum()
        # the drawn means differ by chance too
        chance = (shares * (1 - shares) * own * (1 / self.drawn - 1 / sizes)).sum()
        number = self.documents
        return max(0.0, float(within + between - chance)) * number / max(1, number - 1)
