"""WANDA: pruning by the size of a weight times the norm of its inputs (Sun et al., ICLR 2024)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.compression.blockwise import compress_blocks
from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import Matrix
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.shapes import Bool, Float


def unstructured(making: Making) -> Any:
    """A share of every row's weights set to 0, those of the least |W| times norm of the inputs."""
    share = int(making["percent"]) / 100
    return _pruned(making, lambda importance: least_of_rows(importance, share=share))


def structured(making: Making) -> Any:
    """N of every M weights of a row left, those of the largest |W| times norm of the inputs."""
    kept, of = int(making["kept"]), int(making["of"])
    return _pruned(making, lambda importance: least_of_groups(importance, kept=kept, of=of))


def _pruned(making: Making, least: Any) -> Any:
    model = making.load()

    def prune(matrix: Matrix, squares: Tensor) -> None:
        weight = matrix.read()
        matrix.write(weight.masked_fill(least(weight.abs() * squares.sqrt()), 0))

    compress_blocks(model, making, prune, gather=lambda inputs: inputs.square().sum(0))
    return model


def least_of_rows(
    importance: Float[Tensor, "outputs inputs"], *, share: float
) -> Bool[Tensor, "outputs inputs"]:
    """Which weights of each row are its least important ones, that share of it.

    Example:
        >>> least_of_rows(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), share=0.5)
        tensor([[ True, False, False,  True]])
    """
    count = int(share * importance.shape[1])
    least = importance.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros_like(importance, dtype=torch.bool).scatter_(1, least, value=True)


def least_of_groups(
    importance: Float[Tensor, "outputs inputs"], *, kept: int, of: int
) -> Bool[Tensor, "outputs inputs"]:
    """Which weights of each group of a row are not among its most important ones.

    Raises:
        FlipsError: such groups do not divide the row, or keep all.

    Example:
        >>> least_of_groups(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), kept=2, of=4)
        tensor([[ True, False, False,  True]])
    """
    if not kept < of:
        raise FlipsError(f"{kept} of {of} weights kept prunes none")
    if importance.shape[1] % of:
        raise FlipsError(f"groups of {of} do not divide the {importance.shape[1]} columns")
    least = least_of_rows(importance.reshape(-1, of), share=(of - kept) / of)
    return least.view_as(importance)
