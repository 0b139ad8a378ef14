"""Which head a transformers model has.

Most models return lm_head's output as it is. Gemma 2 caps it softly, Granite divides it, Cohere
multiplies it; their configs name the factor. Which of these a model does is not taken from its
name: the rebuilt logits are held against the model's own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lm_eval_flips.scoring.lm_head import LMHead, StoredHead, UnreadableHeadError, agrees


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


def stored_head_of(module: Any, head: LMHead, hidden: Tensor) -> StoredHead:
    """lm_head's weight and bias as the plain numbers that its hidden states are multiplied by.

    Args:
        module: the model's lm_head.
        head: what the model computes with it.
        hidden: hidden states that entered it, ``[positions, width]``.

    Raises:
        UnreadableHeadError: these numbers do not make its output, or cannot be had.
    """
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if weight is None or weight.is_meta:
        raise UnreadableHeadError("lm_head has no weight")
    weight, bias = _whole(weight.detach()), None if bias is None else _whole(bias.detach())
    if type(weight) is not Tensor or not weight.dtype.is_floating_point:
        weight = weight.dequantize()
    if weight.shape[1:] != hidden.shape[1:]:
        raise UnreadableHeadError("lm_head's weight is packed")
    stored = StoredHead(
        weight=weight.to(hidden),
        bias=None if bias is None else bias.to(hidden),
        scale=head.scale,
        cap=head.cap,
    )
    with torch.no_grad():
        if not agrees(stored.head.logits(hidden), head.logits(hidden)):
            raise UnreadableHeadError("lm_head's weight does not make its output")
    return stored


def _whole(weight: Tensor) -> Tensor:
    """A weight that is split over several processes, gathered; all of them have to ask for it."""
    gathered = getattr(weight, "full_tensor", None)
    return weight if gathered is None else gathered()
