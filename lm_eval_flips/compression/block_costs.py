"""Where compression hurts: one block swapped at a time, on fixed texts.

A block of the compressed model stands in the baseline, and one of the baseline in the compressed
model; how far each mixture is from the baseline says what that block costs. What enters a block is
kept from one reading of the whole model, so that only the blocks from there on are computed: half a
forward pass a block and direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lm_eval_flips.compression.block_swaps import Blocks, Read
from lm_eval_flips.errors import FlipsError

KEPT = (1, 2, 4, 8, 16)  # how many blocks a mixed scheme may leave as they were


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """How far a model is from the baseline at the positions of the texts.

    Args:
        kl: mean KL(baseline ‖ model) over the vocabulary, nats.
        changed: share of positions whose likeliest token is another one.
    """

    kl: float
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCost:
    """What one block costs.

    Args:
        block: its place, from 0.
        alone: the baseline with this block compressed.
        without: the compressed model with this block as it was.
        baseline_bytes: of its weights, in memory.
        compressed_bytes: the same of the compressed one.
    """

    block: int
    alone: Distance
    without: Distance
    baseline_bytes: int
    compressed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """The compressed model with its most expensive blocks as they were.

    Args:
        kept: which blocks, the most expensive first.
        distance: of the mixture.
        more_bytes: what it takes beyond the compressed model, in memory.
    """

    kept: tuple[int, ...]
    distance: Distance
    more_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCosts:
    """What each block of a compressed model costs.

    Args:
        positions: tokens that were predicted.
        whole: the compressed model.
        outside: the compressed model with all blocks as they were: what lies outside them costs.
        blocks: one a block, in their order.
        mixtures: with more and more blocks as they were.
        passes: forward passes through all blocks that a block took, both directions together.
    """

    positions: int
    whole: Distance
    outside: Distance
    blocks: tuple[BlockCost, ...]
    mixtures: tuple[Mixture, ...]
    passes: float

    @property
    def worst(self) -> tuple[BlockCost, ...]:
        """The blocks by what they cost alone, the most expensive first."""
        return tuple(sorted(self.blocks, key=lambda own: (-own.alone.kl, own.block)))


@torch.inference_mode()
def block_costs(baseline: Any, compressed: Any, texts: Sequence[Tensor]) -> BlockCosts:
    """Swap the blocks of two models, one at a time.

    Args:
        baseline: a causal language model of transformers.
        compressed: the same, compressed.
        texts: token ids, ``[1, tokens]`` each, of two tokens or more.

    Raises:
        FlipsError: the models are not of one architecture, or there are no texts.

    Example:
        >>> costs = block_costs(baseline, compressed, texts)  # doctest: +SKIP
        >>> costs.worst[0].block  # doctest: +SKIP
        17
    """
    if not texts:
        raise FlipsError("there are no texts of two tokens or more to read")
    refuse_others(baseline, compressed)
    ours, theirs = Blocks(baseline.eval()), Blocks(compressed.eval())
    reference, inputs = ours.read(texts)
    found, their_inputs = theirs.read(texts)
    whole = distance(reference, found)
    costs = [
        BlockCost(
            block=place,
            alone=distance(reference, ours.read_with({place: theirs[place]}, texts, inputs)),
            without=distance(
                reference, theirs.read_with({place: ours[place]}, texts, their_inputs)
            ),
            baseline_bytes=bytes_of(ours[place]),
            compressed_bytes=bytes_of(theirs[place]),
        )
        for place in range(len(ours))
    ]
    passes = (ours.passes + theirs.passes - 2) / len(ours)  # beside one reading of each model
    every = {place: ours[place] for place in range(len(ours))}
    outside = distance(reference, theirs.read_with(every, texts, their_inputs))
    order = [own.block for own in sorted(costs, key=lambda own: (-own.alone.kl, own.block))]
    return BlockCosts(
        positions=sum(len(one) for one in reference),
        whole=whole,
        outside=outside,
        blocks=tuple(costs),
        mixtures=tuple(
            Mixture(
                kept=tuple(order[:count]),
                distance=distance(
                    reference,
                    theirs.read_with(
                        {place: ours[place] for place in order[:count]}, texts, their_inputs
                    ),
                ),
                more_bytes=sum(
                    costs[place].baseline_bytes - costs[place].compressed_bytes
                    for place in order[:count]
                ),
            )
            for count in KEPT
            if count < len(order)
        ),
        passes=passes,
    )


def refuse_others(baseline: Any, compressed: Any) -> None:
    """Refuse two models whose blocks do not fit each other.

    Raises:
        FlipsError: naming in what they differ.
    """
    ours, theirs = (model.config.get_text_config() for model in (baseline, compressed))
    for what, name in (
        ("architecture", "model_type"),
        ("number of blocks", "num_hidden_layers"),
        ("width", "hidden_size"),
        ("vocabulary", "vocab_size"),
    ):
        before, after = getattr(ours, name, None), getattr(theirs, name, None)
        if before != after:
            raise FlipsError(
                f"the compressed model has another {what} than the baseline ({after}, not "
                f"{before}): its blocks cannot be swapped"
            )
    if baseline.dtype != compressed.dtype:
        raise FlipsError(
            f"the models compute in {baseline.dtype} and {compressed.dtype}; load both in one with "
            "--dtype"
        )


def distance(reference: Read, model: Read) -> Distance:
    """How far a model's log-probabilities are from the baseline's, text by text.

    Args:
        reference: of each text ``[positions, tokens]``, natural logarithms, float32.
        model: the same of the model.

    Example:
        >>> same = [torch.tensor([[0.5, 0.5]]).log()]
        >>> distance(same, same)
        Distance(kl=0.0, changed=0.0)
    """
    kl, changed, positions = 0.0, 0, 0
    for ours, theirs in zip(reference, model, strict=True):
        terms = torch.where(ours == -torch.inf, 0.0, ours.exp() * (ours - theirs))
        kl += float(terms.double().sum())
        changed += int((ours.argmax(-1) != theirs.argmax(-1)).sum())
        positions += len(ours)
    return Distance(kl=max(kl / positions, 0.0), changed=changed / positions)


def bytes_of(block: nn.Module) -> int:
    """Bytes of a block's weights in memory, packed as they are."""
    tensors = [*block.parameters(), *block.buffers()]
    return sum(_parts_bytes(tensor) for tensor in tensors)


def _parts_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor, of a packed one those of the tensors in it."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None or type(tensor) in (Tensor, nn.Parameter):
        return tensor.nbytes
    names, _ = flatten()
    return sum(_parts_bytes(getattr(tensor, name)) for name in names)
