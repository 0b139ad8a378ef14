"""Magnitude pruning: the smallest weights of each matrix set to 0."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import matrices
from lm_eval_flips.compression.wanda import least_of_groups
from lm_eval_flips.shapes import Float


def unstructured(making: Making) -> Any:
    """Every matrix of the blocks without the smallest of its weights."""
    model = making.load()
    for matrix in matrices(model).values():
        weight = matrix.read()
        matrix.write(pruned(weight, weight.abs(), share=int(making["percent"]) / 100))
    return model


def structured(making: Making) -> Any:
    """Every matrix of the blocks with the N largest of every M weights of a row left."""
    kept, of = int(making["kept"]), int(making["of"])
    model = making.load()
    for matrix in matrices(model).values():
        weight = matrix.read()
        matrix.write(weight.masked_fill(least_of_groups(weight.abs(), kept=kept, of=of), 0))
    return model


def pruned(
    weight: Float[Tensor, "outputs inputs"],
    importance: Float[Tensor, "outputs inputs"],
    *,
    share: float,
) -> Float[Tensor, "outputs inputs"]:
    """A matrix with its least important weights set to 0, that share of all.

    Args:
        weight: the matrix.
        importance: of each weight.
        share: 0 to 1.

    Example:
        >>> import torch
        >>> weight = torch.tensor([[1.0, -3.0], [0.5, 2.0]])
        >>> pruned(weight, weight.abs(), share=0.5)
        tensor([[ 0., -3.],
                [ 0.,  2.]])
    """
    least = importance.flatten().argsort()[: round(share * weight.numel())]
    left = weight.clone().flatten()
    left[least] = 0
    return left.view_as(weight)
