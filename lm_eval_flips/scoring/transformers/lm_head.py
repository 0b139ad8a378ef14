"""The last layer: from the hidden state that enters lm_head to the logits a model returns.

Most models return lm_head's output as it is. Gemma 2 caps it softly, Granite divides it, Cohere
multiplies it; their configs name the factor. Which of these a model does is not taken from its
name: the rebuilt logits are held against the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lm_eval_flips.shapes import Float


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


def head_of(model: Any, hidden: Tensor, own: Tensor) -> LMHead | None:
    """The head of a model that made ``own`` logits of these hidden states; None if none does.

    Args:
        model: a transformers causal language model.
        hidden: hidden states that entered its lm_head, ``[positions, width]``.
        own: the logits that the model returned for them, ``[positions, tokens]``.
    """
    module = model.get_output_embeddings()
    if module is None:
        return None
    config = model.config.get_text_config(decoder=True)
    scales = [1.0]
    if division := getattr(config, "logits_scaling", None):
        scales.insert(0, 1 / float(division))
    if factor := getattr(config, "logit_scale", None):
        scales.insert(0, float(factor))
    caps = [0.0]
    if cap := getattr(config, "final_logit_softcapping", None):
        caps.insert(0, float(cap))
    heads = [
        LMHead(project=module, tokens=own.shape[-1], scale=scale, cap=cap)
        for scale in scales
        for cap in caps
    ]
    return next((head for head in heads if agrees(head.logits(hidden), own)), None)


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


def linear(weight: Tensor, bias: Tensor | None) -> Callable[[Tensor], Tensor]:
    """lm_head from its stored weight ``[tokens, width]``."""

    def project(hidden: Tensor) -> Tensor:
        return nn.functional.linear(hidden, weight, bias)

    return project
