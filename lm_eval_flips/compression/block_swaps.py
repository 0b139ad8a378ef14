"""A model's blocks, read with some of them swapped: what comes before the first swap is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lm_eval_flips.compression.modules import StandIn, blocks
from lm_eval_flips.errors import FlipsError

Read: TypeAlias = list[Tensor]  # log-probabilities of each text, [positions, tokens], float32
Inputs: TypeAlias = list[list[Tensor]]  # of each text what enters each block, [1, tokens, width]


class Blocks:
    """The blocks of a model.

    ``passes`` counts forward passes through all blocks, over all texts.

    Args:
        model: a causal language model of transformers.

    Raises:
        FlipsError: its blocks cannot be found.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        _, self._list = blocks(model)
        self._own = list(self._list)
        self.passes, self._wrapped = 0.0, False

    def __len__(self) -> int:
        return len(self._own)

    def __getitem__(self, place: int) -> nn.Module:
        return self._own[place]

    def read(self, texts: Sequence[Tensor]) -> tuple[Read, Inputs]:
        """Read the texts with the model's own blocks.

        Returns:
            Log-probabilities of each text, and what entered each block.
        """
        inputs: Inputs = []
        entered: list[Tensor] = []

        def enter(block: nn.Module, given: tuple[Any, ...]) -> None:
            if not given:
                raise FlipsError(
                    f"{type(self._model).__name__} calls its blocks in a way that is not known "
                    "here: they cannot be swapped"
                )
            entered.append(given[0].clone())

        def leave(block: nn.Module, given: tuple[Any, ...], made: object) -> None:
            self._wrapped = isinstance(made, tuple)

        hooks = [block.register_forward_pre_hook(enter) for block in self._own]
        hooks.append(self._own[0].register_forward_hook(leave))
        read: Read = []
        try:
            for ids in texts:
                read.append(self._logprobs(ids, share=1 / len(texts)))
                inputs.append(list(entered))
                entered.clear()
        finally:
            for hook in hooks:
                hook.remove()
        return read, inputs

    def read_with(
        self, swapped: Mapping[int, nn.Module], texts: Sequence[Tensor], inputs: Inputs
    ) -> Read:
        """Read the texts with other blocks in some places.

        Args:
            swapped: the others by their place.
            texts: the texts.
            inputs: what entered the model's own blocks.
        """
        first = min(swapped)
        share = (len(self) - first) / len(self) / len(texts)
        read: Read = []
        try:
            for ids, entered in zip(texts, inputs, strict=True):
                for place, own in enumerate(self._own):
                    self._list[place] = swapped.get(place, own)
                    if place < first:
                        self._list[place] = Passed(own, wrapped=self._wrapped)
                self._list[first] = Entered(swapped[first], entered[first])
                read.append(self._logprobs(ids, share=share))
        finally:
            for place, own in enumerate(self._own):
                self._list[place] = own
        return read

    def _logprobs(self, ids: Tensor, *, share: float) -> Tensor:
        self.passes += share
        logits = self._model(ids.to(self._model.device), use_cache=False).logits[0, :-1]
        return torch.log_softmax(logits.float(), -1)


class Passed(StandIn):
    """Stands for a block that is not computed: what enters it comes out, and is not looked at."""

    def __init__(self, block: nn.Module, *, wrapped: bool) -> None:
        super().__init__(block)
        self.wrapped = wrapped  # as blocks of some architectures return it

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Any:
        """What entered."""
        return (hidden,) if self.wrapped else hidden


class Entered(StandIn):
    """A block that is given what entered it when the whole model was read."""

    def __init__(self, block: nn.Module, entered: Tensor) -> None:
        super().__init__(block)
        self.entered = entered

    def forward(self, _: Tensor, *more: Any, **given: Any) -> Any:
        """What the block makes of it."""
        return self.block(self.entered, *more, **given)
