"""Which way the answers moved, apart from how many did.

KL and flips measure the volume of what moved, not its direction (ByteShape, arXiv 2606.19558). A
flip is a loss (correct to incorrect) or a win. Two lines tell what their ratio means: one half,
where losses and wins are alike and the score stays; and what noise alone would give
(``noise_direction``).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from torch import Tensor

from lm_eval_flips.shapes import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """Losses and wins among flips.

    ``random_loss_share`` is the share of losses if noise alone turned as many answers; nan where
    the choices' log-likelihoods are not known. ``margin_change`` is the mean change of the signed
    top margin; nan where there are no choices.
    """

    lost: int
    won: int
    baseline_correct: int
    random_loss_share: float
    margin_change: float

    @property
    def loss_share(self) -> float:
        """Losses as a share of flips; nan for none."""
        return self.lost / (self.lost + self.won) if self.lost + self.won else nan

    @property
    def negative_flip_rate(self) -> float:
        """Share of the baseline's correct answers that were lost; nan for none."""
        return self.lost / self.baseline_correct if self.baseline_correct else nan


def signed_margin(
    loglikelihoods: Float[Tensor, "samples choices"], answer: Int[Tensor, " samples"]
) -> Float[Tensor, " samples"]:
    """Probability of one choice minus that of the best other one, -1..1.

    In the baseline, at its own answer, this is the top margin; in the compressed run, at the
    baseline's answer, it is negative where the answer changed. 1 for a sample with a single choice.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.6, 0.3, 0.1]])
        >>> signed_margin(p.log(), torch.tensor([1]))
        tensor([-0.3000], dtype=torch.float64)
    """
    p = loglikelihoods.double().softmax(-1)
    own = p.gather(-1, answer[:, None])
    others = p.scatter(-1, answer[:, None], 0.0).amax(-1)
    return own[:, 0] - others


def direction(
    *,
    baseline_correct: Bool[Tensor, " samples"],
    compressed_correct: Bool[Tensor, " samples"],
    random_loss_share: float = nan,
    margin_change: Float[Tensor, " measured"] | None = None,
) -> Direction:
    """Count losses and wins.

    Args:
        baseline_correct: whether the baseline's answer is right.
        compressed_correct: the same of the compressed run, same order.
        random_loss_share: what noise alone would give, if that is known.
        margin_change: change of the signed margin of those samples that have choices.

    Example:
        >>> import torch
        >>> found = direction(
        ...     baseline_correct=torch.tensor([True, True, False, False]),
        ...     compressed_correct=torch.tensor([False, True, True, False]),
        ... )
        >>> found.loss_share, found.negative_flip_rate
        (0.5, 0.5)
    """
    return Direction(
        lost=int((baseline_correct & ~compressed_correct).sum()),
        won=int((~baseline_correct & compressed_correct).sum()),
        baseline_correct=int(baseline_correct.sum()),
        random_loss_share=random_loss_share,
        margin_change=nan if margin_change is None else float(margin_change.mean()),
    )
