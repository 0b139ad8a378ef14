"""Which way would noise alone turn the answers? The yardstick of a share of losses.

Noise does not turn answers at random: it turns those that were close. Near the border right answers
are about as many as wrong ones, so about half of the flips are losses (53 to 64 % on real models),
where answers that change to any other choice alike would lose far more. So the baseline's own
log-likelihoods are taken, with Gaussian noise of the size that changes as many answers as were
seen to change (noise on weights acts alike: arXiv 2407.09141, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float

DRAWS = 16  # of noise, for every sample


def noise_loss_share(
    scores: Float[Tensor, "samples choices"],
    right: Bool[Tensor, "samples choices"],
    *,
    changed: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Losses as a share of the flips that noise would bring, 0..1.

    Args:
        scores: the baseline's log-likelihoods as the metric compares them, -inf beyond a sample's
            own choices.
        right: which choices are right.
        changed: how many answers changed, right or wrong.
        draws: of the noise.
        seed: of the draws; the same seed gives the same share on the same kind of device.

    Returns:
        nan where nothing changed, or noise turns no answer from right to wrong or back.

    Example:
        >>> import torch
        >>> scores = torch.tensor([[0.0, -0.1], [0.0, -9.0]]).repeat(500, 1)
        >>> right = torch.tensor([[True, False], [False, True]]).repeat(500, 1)
        >>> noise_loss_share(scores, right, changed=100)  # the wrong ones are far from right
        1.0
    """
    if not changed or not len(scores):
        return nan
    scores = scores.double()
    answers = scores.argmax(-1, keepdim=True)
    behind = scores.gather(-1, answers) - scores
    reached = torch.stack(
        [_turning(behind, answers, noise) for noise in _noises(scores, draws, seed)]
    )
    ordered = reached.reshape(-1).sort().values
    size = float(ordered[min(changed * draws, ordered.numel()) - 1])
    if not size < torch.inf:
        size = float(ordered[ordered.isfinite()][-1:].sum())
    before = right.gather(-1, answers)[:, 0]
    lost = won = 0
    for noise in _noises(scores, draws, seed):
        turned = (scores + size * noise).argmax(-1, keepdim=True)
        after = right.gather(-1, turned)[:, 0]
        lost += int((before & ~after).sum())
        won += int((~before & after).sum())
    return lost / (lost + won) if lost + won else nan


def _noises(scores: Tensor, draws: int, seed: int) -> Iterator[Tensor]:
    """The same noise each time it is asked for."""
    generator = torch.Generator(scores.device).manual_seed(seed)
    for _ in range(draws):
        yield torch.randn(
            scores.shape, generator=generator, dtype=scores.dtype, device=scores.device
        )


def _turning(behind: Tensor, answers: Tensor, noise: Tensor) -> Tensor:
    """The size of noise from which each answer turns; inf where none turns it."""
    rise = noise - noise.gather(-1, answers)
    sizes = torch.where(rise > 0, behind / rise, torch.inf)
    return sizes.amin(-1)
