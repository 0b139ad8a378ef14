"""Which way would noise alone turn the answers? The yardstick of a share of losses.

Noise does not turn answers at random: it turns those that were close. Near the border right answers
are about as many as wrong ones, so about half of the flips are losses (53 to 64 % on real models),
where answers that change to any other choice alike would lose far more. So the baseline's own
log-likelihoods are taken, with Gaussian noise of the size that changes as many answers as were
seen to change (noise on weights acts alike: arXiv 2407.09141, section 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch

from lm_eval_flips.shapes import Bool, Float

MOST_DRAWS, SAMPLES = 16, 200_000  # draws of noise for every sample, and in all


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFlips:
    """Expected numbers of losses and wins; of several tasks they add up."""

    lost: float
    won: float

    @property
    def loss_share(self) -> float:
        """Losses as a share of both, 0..1; nan for none."""
        return self.lost / (self.lost + self.won) if self.lost + self.won else nan


def noise_flips(
    scores: Float[torch.Tensor, "samples choices"],
    right: Bool[torch.Tensor, "samples choices"],
    *,
    changed: int,
    seed: int = 0,
) -> NoiseFlips:
    """The flips that noise would bring which changes as many answers as were seen to change.

    Args:
        scores: the baseline's log-likelihoods as the metric compares them, -inf beyond a sample's
            own choices.
        right: which choices are right.
        changed: how many answers changed, right or wrong.
        seed: of the draws; the same seed gives the same flips on the same kind of device.

    Returns:
        None lost and none won where nothing changed, or noise cannot turn an answer.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.0, -0.1], [0.0, -9.0]]).repeat(500, 1)
        >>> right = torch.tensor([[True, False], [False, True]]).repeat(500, 1)
        >>> noise_flips(scores, right, changed=100).loss_share  # the wrong ones are far from right
        1.0
    """
    n = len(scores)
    if not changed or not n:
        return NoiseFlips(lost=0.0, won=0.0)
    scores = scores.double()
    draws = min(MOST_DRAWS, max(1, SAMPLES // n))
    generator = torch.Generator(scores.device).manual_seed(seed)
    noise = torch.randn(
        (draws, *scores.shape), generator=generator, dtype=scores.dtype, device=scores.device
    )
    answers = scores.argmax(-1, keepdim=True)
    behind = scores.gather(-1, answers) - scores
    rise = noise - noise.gather(-1, answers.expand(draws, -1, -1))
    # the size of noise from which each answer turns; inf where none turns it
    turning = torch.where(rise > 0, behind / rise, torch.inf).amin(-1).reshape(-1).sort().values
    # read from the device only once, at the end
    finite = turning.isfinite().sum()
    size = turning.gather(0, (finite.clamp(max=changed * draws) - 1).clamp(min=0)[None])[0]
    before = right.gather(-1, answers)[:, 0]
    turned = (scores + size * noise).argmax(-1, keepdim=True)
    after = right.expand(draws, -1, -1).gather(-1, turned)[..., 0]
    counts = torch.stack([(before & ~after).sum(), (~before & after).sum()]) * (finite > 0)
    lost, won = counts.tolist()
    return NoiseFlips(lost=lost / draws, won=won / draws)
