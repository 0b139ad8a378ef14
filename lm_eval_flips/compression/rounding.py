"""Weights rounded to the nearest of few levels, and stored as an ordinary model: no library."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import matrices
from lm_eval_flips.shapes import Float


def to_nearest(making: Making) -> Any:
    """Every matrix of the blocks rounded, group by group."""
    size = making.group()
    model = making.load()
    for matrix in matrices(model).values():
        matrix.write(rounded(matrix.read(), bits=int(making["bits"]), group=size))
    return model


def rounded(
    weight: Float[Tensor, "outputs inputs"], *, bits: int, group: int
) -> Float[Tensor, "outputs inputs"]:
    """Each weight as the nearest of 2^bits levels between its group's least and largest, or 0.

    Args:
        weight: a matrix.
        bits: of a weight.
        group: columns that share a scale and a zero.

    Example:
        >>> rounded(torch.tensor([[0.0, 0.2, 0.9, 3.0]]), bits=2, group=4)
        tensor([[0., 0., 1., 3.]])
    """
    grouped = weight.view(len(weight), -1, group)
    low = grouped.amin(-1, keepdim=True).clamp(max=0)
    high = grouped.amax(-1, keepdim=True).clamp(min=0)
    most = 2**bits - 1
    scale = ((high - low) / most).clamp(min=torch.finfo(weight.dtype).tiny)
    zero = (-low / scale).round()
    levels = ((grouped / scale).round() + zero).clamp(0, most)
    nearest: Tensor = ((levels - zero) * scale).flatten(1)
    return nearest
