"""Answers that are drawn at random, several of each model: what changed, beside what draws change.

One draw against one draw tells little: at a success rate of 50 % half of all flips are the draws'.
Here every document has a success rate p under the baseline and q under the compressed model, of
which several draws each are known. An answer of one and one of the other differ in correctness with
the chance p(1 - q) + (1 - p)q, two of one model with 2p(1 - p). The former less the mean of the
latter two is (p - q)^2: what the models differ in, however much they draw. All estimates are means
over pairs of draws (U-statistics: Hoeffding 1948, Ann. Math. Stat. 19) and so without bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnFlips:
    """Chances of each document, ``[samples]``, 0..1 but for ``beyond``.

    ``lost`` and ``won`` are those that a draw of the baseline is right and one of the compressed
    model wrong, and the other way round; ``baseline`` and ``compressed`` that two draws of one
    model differ, nan where there is one; ``beyond`` estimates the squared change of the success
    rate, and may be below 0.
    """

    lost: Float[Tensor, " samples"]
    won: Float[Tensor, " samples"]
    baseline: Float[Tensor, " samples"]
    compressed: Float[Tensor, " samples"]

    @property
    def flips(self) -> Float[Tensor, " samples"]:
        """The chance that a draw of each differ in correctness."""
        return self.lost + self.won

    @property
    def beyond(self) -> Float[Tensor, " samples"]:
        """What of it is not the draws': nan where a model was drawn from once."""
        return self.flips - (self.baseline + self.compressed) / 2


def drawn_flips(
    *,
    baseline: Float[Tensor, "samples draws"],
    compressed: Float[Tensor, "samples others"],
    independent: Bool[Tensor, "draws others"],
) -> DrawnFlips:
    """The chances of each document, from draws of both models.

    Args:
        baseline: 1 for a draw that is right, 0 for one that is wrong.
        compressed: the same of the compressed model.
        independent: which draws of the two share no random numbers: those of one seed do, and
            would seem nearer to each other than they are.

    Example:
        >>> ours, theirs = torch.tensor([[1.0, 1.0, 0.0]]), torch.tensor([[0.0, 0.0, 0.0]])
        >>> found = drawn_flips(
        ...     baseline=ours, compressed=theirs, independent=torch.ones(3, 3).bool()
        ... )
        >>> [round(float(x), 3) for x in (found.lost, found.won, found.baseline, found.beyond)]
        [0.667, 0.0, 0.667, 0.333]
    """
    ours, theirs, pairs = baseline.double(), compressed.double(), independent.double()
    count = float(pairs.sum())
    return DrawnFlips(
        lost=((ours @ pairs) * (1 - theirs)).sum(-1) / count,
        won=(((1 - ours) @ pairs) * theirs).sum(-1) / count,
        baseline=_among(ours),
        compressed=_among(theirs),
    )


def _among(draws: Tensor) -> Tensor:
    """The share of all two draws of each document that differ."""
    number = draws.shape[1]
    if number < 2:
        return torch.full((len(draws),), torch.nan, dtype=torch.float64, device=draws.device)
    right = draws.sum(-1)
    return 2 * right * (number - right) / (number * (number - 1))
