"""The last layer: from the hidden state that enters lm_head to the logits a model returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lm_eval_flips.shapes import Float


class UnreadableHeadError(RuntimeError):
    """The hidden states that enter lm_head do not make the logits that the model returns."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LMHead:
    """lm_head with what a model does to its output: ``cap * tanh(scale * project(h) / cap)``.

    ``cap`` is 0 where there is none; ``tokens`` is the size of the vocabulary.
    """

    project: Callable[[Tensor], Tensor]
    tokens: int
    scale: float = 1.0
    cap: float = 0.0

    def logits(self, hidden: Float[Tensor, "positions width"]) -> Float[Tensor, "positions tokens"]:
        """Logits of the hidden states, in the model's dtype.

        Example:
            >>> head = LMHead(project=torch.nn.Identity(), tokens=2, scale=2.0)
            >>> head.logits(torch.tensor([[1.0, 3.0]]))
            tensor([[2., 6.]])
        """
        logits = self.project(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.cap:
            logits = torch.tanh(logits / self.cap) * self.cap
        return logits


def agrees(rebuilt: Tensor, own: Tensor) -> bool:
    """Whether two logits are the same but for rounding in the model's dtype.

    A model over several devices returns its logits on the first; lm_head makes them on the last.
    """
    if rebuilt.shape != own.shape:
        return False
    own = own.to(rebuilt.device)
    finite = own[own.isfinite()].float().abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    off = 8 * torch.finfo(own.dtype).eps * scale
    return torch.allclose(rebuilt.float(), own.float(), rtol=0.0, atol=off, equal_nan=True)


def linear(
    weight: Tensor, bias: Tensor | None, *, in_place: bool = False
) -> Callable[[Tensor], Tensor]:
    """lm_head from its stored weight ``[tokens, width]``.

    ``in_place`` puts the output of each call where that of the call before lay: a fresh tensor of
    so many logits costs a sixth of the time, for pages that the system has to clear first.
    """
    kept = weight.new_empty(0, len(weight))

    def project(hidden: Tensor) -> Tensor:
        nonlocal kept
        hidden = hidden.to(weight.dtype)
        if not in_place:
            return nn.functional.linear(hidden, weight, bias)
        if len(kept) < len(hidden):
            kept = weight.new_empty(len(hidden), len(weight))
        out = kept[: len(hidden)]
        if bias is None:
            return torch.mm(hidden, weight.t(), out=out)
        return torch.addmm(bias, hidden, weight.t(), out=out)

    return project


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredHead:
    """lm_head as plain numbers: weight ``[tokens, width]``, bias, and what follows its output.

    ``widened`` says that it and the hidden states are stored in fewer bits than the float32 in
    which they are multiplied, as llama.cpp does with weights of 16 bits.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    cap: float = 0.0
    widened: bool = False

    @property
    def head(self) -> LMHead:
        """What it computes; its logits are good until it is asked for the next ones."""
        weight = self.weight.float() if self.widened else self.weight
        return LMHead(
            project=linear(weight, self.bias, in_place=True),
            tokens=len(self.weight),
            scale=self.scale,
            cap=self.cap,
        )
