"""A model's blocks one after the other, each with what those before it, as compressed, give it.

What calibrated pruning needs: the inputs of every linear layer of a block, over the texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lm_eval_flips.compression.making import Making
from lm_eval_flips.compression.modules import Matrix, StandIn, block_matrices, blocks
from lm_eval_flips.errors import FlipsError

LONGEST = 2048  # tokens of a text
Inputs = dict[str, Tensor]


class _Reached(Exception):  # noqa: N818  (no error: the first block was reached)
    """The first block was called; the rest of the model need not be."""


class _First(StandIn):
    """Stands for the first block, and keeps what it is called with."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        self.calls: list[tuple[Tensor, dict[str, Any]]] = []

    def forward(self, hidden: Tensor, **given: Any) -> None:
        self.calls.append((hidden, given))
        raise _Reached


@torch.inference_mode()
def compress_blocks(
    model: Any,
    making: Making,
    compress: Callable[[Matrix, Tensor], None],
    *,
    gather: Callable[[Tensor], Tensor],
) -> None:
    """Compress every matrix, block after block.

    Args:
        model: whose blocks are compressed in place.
        making: with the texts.
        compress: is given a matrix and the sum over all texts of what ``gather`` made.
        gather: is given a layer's inputs of one text, tokens x inputs, float32.

    Raises:
        FlipsError: there are no texts, or the blocks are not called as this expects.
    """
    name, of_model = blocks(model)
    calls = _first_calls(model, making, name)
    for block in of_model:
        named = block_matrices(block)
        sums: Inputs = {}
        hooks = [
            matrix.module.register_forward_hook(_summing(sums, below, gather))
            for below, matrix in named.items()
        ]
        _through(block, calls)
        for hook in hooks:
            hook.remove()
        for below, matrix in named.items():
            if below in sums:  # an expert that no token was sent to stays as it is
                compress(matrix, sums[below])
        calls = [
            (hidden, given)
            for hidden, (_, given) in zip(_through(block, calls), calls, strict=True)
        ]


def _summing(
    sums: Inputs, name: str, gather: Callable[[Tensor], Tensor]
) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
    def add(_: nn.Module, given: tuple[Tensor, ...], __: Any) -> None:
        inputs = gather(given[0].flatten(0, -2).float())
        sums[name] = sums[name] + inputs if name in sums else inputs

    return add


def _through(block: nn.Module, calls: list[tuple[Tensor, dict[str, Any]]]) -> list[Tensor]:
    given = [block(hidden, **more) for hidden, more in calls]
    return [one[0] if isinstance(one, tuple) else one for one in given]


def _first_calls(model: Any, making: Making, name: str) -> list[tuple[Tensor, dict[str, Any]]]:
    """What the first block is called with, for every text."""
    of_model = model.get_submodule(name)
    first = _First(of_model[0])
    of_model[0] = first
    try:
        for ids in token_ids(making):
            try:
                model(ids, use_cache=False)
            except _Reached:
                continue
    except TypeError:
        raise FlipsError(
            f"{type(model).__name__} calls its blocks in a way that {making.name} does not know"
        ) from None
    finally:
        of_model[0] = first.block
    if not first.calls:
        raise FlipsError(f"{making.name} has no texts to calibrate with")
    return first.calls


def token_ids(making: Making) -> Iterator[Tensor]:
    """The tokens of every text, 1 x tokens."""
    for text in making.texts:
        ids: Tensor = making.tokenizer(text, return_tensors="pt").input_ids[:, :LONGEST]
        if ids.shape[1] > 1:
            yield ids
