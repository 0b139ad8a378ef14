"""SparseGPT: weights pruned column by column, the error given to those that follow.

Frantar and Alistarh, ICML 2023, algorithm 1: with the inverse Hessian's Cholesky factor U, what
pruning a column costs is spread over the columns behind it, so that the layer's outputs stay near.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.compression.blockwise import compress_blocks
from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import Matrix
from lm_eval_flips.compression.wanda import least_of_groups
from lm_eval_flips.shapes import Bool, Float

BLOCK = 128  # columns whose mask is chosen at once, as in the paper
DAMPING = 0.01  # of the mean of the Hessian's diagonal

Choose = Callable[[Tensor], Tensor]


def unstructured(making: Making) -> Any:
    """A share of every block of columns set to 0, by the paper's error."""
    share = int(making["percent"]) / 100
    return _pruned(making, lambda errors: _least(errors, share=share))


def structured(making: Making) -> Any:
    """N of every M weights of a row left, by the paper's error."""
    kept, of = int(making["kept"]), int(making["of"])
    return _pruned(making, lambda errors: least_of_groups(errors, kept=kept, of=of))


def _pruned(making: Making, choose: Choose) -> Any:
    model = making.load()

    def prune(matrix: Matrix, hessian: Tensor) -> None:
        matrix.write(pruned(matrix.read(), hessian, choose=choose))

    compress_blocks(model, making, prune, gather=lambda inputs: inputs.T @ inputs)
    return model


def pruned(
    weight: Float[Tensor, "outputs inputs"],
    hessian: Float[Tensor, "inputs inputs"],
    *,
    choose: Choose,
) -> Float[Tensor, "outputs inputs"]:
    """A matrix with what ``choose`` names set to 0, and the rest moved to make up for it.

    Args:
        weight: the matrix.
        hessian: the sum of x xᵀ over its inputs x.
        choose: is given the error w² / U² of each weight of a block of columns, and gives a mask.
    """
    left, hessian = weight.clone(), hessian.clone()
    dead = hessian.diagonal() == 0  # inputs that are always 0
    hessian[dead, dead] = 1
    left[:, dead] = 0
    factor = _factor(hessian)
    for begin in range(0, left.shape[1], BLOCK):
        end = min(begin + BLOCK, left.shape[1])
        inside, within = left[:, begin:end].clone(), factor[begin:end, begin:end]
        mask = choose(inside.square() / within.diagonal().square())
        errors = torch.zeros_like(inside)
        for i in range(end - begin):
            kept = inside[:, i].masked_fill(mask[:, i], 0)
            errors[:, i] = (inside[:, i] - kept) / within[i, i]
            inside[:, i:] -= torch.outer(errors[:, i], within[i, i:])
            inside[:, i] = kept
        left[:, begin:end] = inside
        left[:, end:] -= errors @ factor[begin:end, end:]
    return left


def _factor(hessian: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped Hessian's inverse."""
    damping = DAMPING * hessian.diagonal().mean()
    damped = hessian + damping * torch.eye(len(hessian))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor


def _least(
    errors: Float[Tensor, "outputs columns"], *, share: float
) -> Bool[Tensor, "outputs columns"]:
    """The smallest errors of a block, that share of all of them."""
    count = int(share * errors.numel())
    if count == 0:
        return torch.zeros_like(errors, dtype=torch.bool)
    return errors <= errors.flatten().kthvalue(count).values
