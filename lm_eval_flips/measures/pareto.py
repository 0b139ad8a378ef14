"""Which models no other one beats in size and in distance together."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.shapes import Bool, Float


def pareto_front(
    *, sizes: Float[Tensor, " models"], distances: Float[Tensor, " models"]
) -> Bool[Tensor, " models"]:
    """The models of which none of the others is as small and as near, and smaller or nearer.

    Two models alike in both are on the front together, or beaten together.

    Args:
        sizes: of each model, in any unit; nan where it is not known.
        distances: from the baseline, less being better; nan where it is not known.

    Returns:
        True on the front; never of a model of which either is nan.

    Example:
        >>> import torch
        >>> sizes, distances = torch.tensor([4.0, 8.0, 8.0]), torch.tensor([0.2, 0.1, 0.3])
        >>> pareto_front(sizes=sizes, distances=distances)
        tensor([ True,  True, False])
    """
    smaller, nearer = sizes[:, None] < sizes, distances[:, None] < distances
    as_small, as_near = sizes[:, None] <= sizes, distances[:, None] <= distances
    beaten = (as_small & as_near & (smaller | nearer)).any(0)
    return ~beaten & ~torch.isnan(sizes) & ~torch.isnan(distances)
