"""Can these log-likelihoods be a model's? What no model gives, and what a broken backend does.

A log-likelihood is the logarithm of a probability, in nats. So it is not positive; those of
different continuations of one context sum to at most 1 (of which none begins another, as of equally
long ones); and a continuation with more than half of the probability holds the likeliest token at
each of its places.
"""

from __future__ import annotations

from math import log, nan

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float, Int

POSITIVE = 1e-3  # nats; a sum of float32 logarithms may exceed 0 by less
OVERFULL = 1.05  # bfloat16 rounds a probability by up to 2 %
ROUNDING = 1e-6  # of a sum
ROWS = 1 << 14  # of which every two choices are held against each other at once
SURE = log(0.51)
# Steps to which logs are rounded, coarsest first; a bfloat16 of 16 to 32 has steps of 1/8.
FEW = 64  # values by which a step is tried first
STEPS = (1.0, 0.5, 0.25, 0.125, 0.1, 0.0625, 0.05, 0.03125, 0.01)


def own_choices(choices: Int[Tensor, " n"], width: int) -> Bool[Tensor, "n k"]:
    """Which cells of a padded table are a sample's own.

    Example:
        >>> own_choices(torch.tensor([2, 3]), 3).tolist()
        [[True, True, False], [True, True, True]]
    """
    return torch.arange(width, device=choices.device) < choices[:, None]


def tied(loglikelihoods: Float[Tensor, "n k"], choices: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Samples of two or more choices that are all alike.

    Example:
        >>> tied(torch.tensor([[0.0, 0.0], [-1.0, -2.0]]), torch.tensor([2, 2])).tolist()
        [True, False]
    """
    own = own_choices(choices, loglikelihoods.shape[1])
    low = loglikelihoods.masked_fill(~own, torch.inf).amin(-1)
    high = loglikelihoods.masked_fill(~own, -torch.inf).amax(-1)
    return (low == high) & (choices > 1)


def tied_at_the_top(
    loglikelihoods: Float[Tensor, "n k"], choices: Int[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Samples whose best choice has an equal: their answer is the first of them by convention.

    Example:
        >>> scores = torch.tensor([[-1.0, -1.0, -3.0], [-1.0, -2.0, -2.0]])
        >>> tied_at_the_top(scores, torch.tensor([3, 3])).tolist()
        [True, False]
    """
    own = own_choices(choices, loglikelihoods.shape[1])
    best = loglikelihoods.masked_fill(~own, -torch.inf).amax(-1, keepdim=True)
    return ((loglikelihoods == best) & own).sum(-1) > 1


def overfull(
    loglikelihoods: Float[Tensor, "n k"],
    lengths: Float[Tensor, "n k"],
    choices: Int[Tensor, " n"],
) -> Bool[Tensor, " n"]:
    """Samples whose equally long choices hold more probability than there is.

    Args:
        loglikelihoods: nats.
        lengths: the choices' lengths in characters, nan where they are not known.
        choices: each sample's number of choices.

    Example:
        >>> two = torch.tensor([[-0.1, -0.2]])
        >>> overfull(two, torch.ones(1, 2), torch.tensor([2])).tolist()
        [True]
        >>> overfull(two, torch.tensor([[1.0, 3.0]]), torch.tensor([2])).tolist()
        [False]
    """
    parts = zip(
        *(torch.split(whole, ROWS) for whole in (loglikelihoods, lengths, choices)), strict=True
    )
    return torch.cat([_overfull(*part) for part in parts])


def _overfull(loglikelihoods: Tensor, lengths: Tensor, choices: Tensor) -> Tensor:
    own = own_choices(choices, loglikelihoods.shape[1])
    held = loglikelihoods.exp().masked_fill(~own, 0.0)
    some = held.sum(-1) > OVERFULL - ROUNDING  # no part of a sample's choices holds more than all
    if not some.any():
        return some
    alike = lengths[:, :, None] == lengths[:, None, :]
    return ((alike * held[:, None, :]).sum(-1).masked_fill(~own, 0.0) > OVERFULL).any(-1)


def contradicts_greedy(
    loglikelihoods: Float[Tensor, "n k"],
    greedy: Int[Tensor, "n k"],
    lengths: Float[Tensor, "n k"],
) -> Bool[Tensor, " n"]:
    """Samples whose greedy flags contradict their log-likelihoods.

    More than half of the probability without the likeliest tokens; or, among choices of one
    character, one that is the likeliest and yet less likely than another.

    Args:
        loglikelihoods: nats, -inf beyond a sample's own choices.
        greedy: 1, 0, or -1 where it is not known.
        lengths: the choices' lengths in characters, nan where they are not known.

    Example:
        >>> flags, one = torch.tensor([[0, 0]]), torch.ones(1, 2)
        >>> contradicts_greedy(torch.tensor([[-0.1, -3.0]]), flags, one).tolist()
        [True]
        >>> contradicts_greedy(torch.tensor([[-0.9, -1.0]]), flags, one).tolist()
        [False]
    """
    unseen = (loglikelihoods > SURE) & (greedy == 0)
    single = lengths == 1
    best = loglikelihoods.masked_fill(~single, -torch.inf).amax(-1, keepdim=True)
    beaten = single & (greedy == 1) & (loglikelihoods < best)
    return (unseen | beaten).any(-1)


def grid(values: Float[Tensor, " n"]) -> float:
    """The coarsest step of which all values are multiples; nan where there is none.

    Example:
        >>> grid(torch.tensor([-9.0, -8.5, -9.25, -9.375]))
        0.125
        >>> grid(torch.tensor([-1.2345, -0.1]))
        nan
    """
    finite = values[values.isfinite()].double()
    # a few values rule out most steps, so that the rest is hardly ever looked at
    few = finite[:FEW, None] / torch.tensor(STEPS, dtype=torch.float64, device=values.device)
    for step, fits in zip(STEPS, _whole(few).all(0).tolist(), strict=True):
        if fits and bool(_whole(finite / step).all()):
            return step if bool((finite != 0).any()) else nan
    return nan


def _whole(places: Tensor) -> Tensor:
    """Which are whole numbers, up to rounding."""
    return (places - places.round()).abs() < 1e-6
