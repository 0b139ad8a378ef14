"""What is known of a compressed model along the baseline's answers, sample by sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerValues:
    """Where and how far two models part while they write, ``[samples]`` each.

    ``kl`` is the mean over an answer's positions of KL(baseline || compressed) over the vocabulary
    (nats), nan of an answer that was not measured; ``parting`` the first position, counted from 0,
    at which the compressed model writes another token, nan where it writes the same answer or was
    not measured; ``never`` 1 where it writes the same, 0 where not, -1 where not measured; ``gap``
    how far its two best tokens lie apart at the parting (nats). ``top`` is K where the distances
    are lower bounds over the K most likely tokens and the rest. ``near_ties`` is the share of the
    baseline's own positions at which its choice hangs on rounding, up to ``noise`` nats.
    """

    kl: Tensor
    parting: Tensor
    never: Tensor
    gap: Tensor
    top: int | None
    noise: float
    near_ties: float
