"""Ranks from 1 of values that may be tied."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.shapes import Float


def ranks(values: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """Ranks from 1, ties sharing their mean.

    Example:
        >>> import torch
        >>> ranks(torch.tensor([3.0, 1.0, 3.0]))
        tensor([2.5000, 1.0000, 2.5000], dtype=torch.float64)
    """
    ordered, origin = values.sort()
    _, place, counts = torch.unique_consecutive(ordered, return_inverse=True, return_counts=True)
    shared = counts.cumsum(0).double() - (counts.double() - 1) / 2
    return torch.empty_like(shared[place]).scatter_(0, origin, shared[place])
