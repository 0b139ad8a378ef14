"""Which numbers a metric compares, raw or length-normalised, and which choice that answers.

The rules are the harness's (lm_eval 0.4.13, api/task.py:1500-1570), ties going to the first choice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.readings import CORRECT
from lm_eval_flips.pairs.sides import Side

# Metrics whose answer is the argmax of the compared numbers.
ANSWERING = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")


def as_compared(pairs: Pairs, side: Side, metric: str) -> Tensor | None:
    """Log-likelihoods as the metric compares them: raw, per character, per byte or conditional.

    Returns:
        ``[samples, choices]``, -inf beyond a sample's choices; None where there are no choices, or
        where the log does not tell the choices' lengths.
    """
    if pairs.kind != "choices":
        return None
    scores = side.loglikelihoods
    if metric == "acc_mutual_info":
        return None if side.unconditional is None else scores - side.unconditional
    if metric not in ("acc_norm", "acc_bytes"):
        return scores
    lengths = pairs.chars if metric == "acc_norm" else pairs.bytes
    own = torch.arange(scores.shape[1], device=scores.device) < pairs.choices[:, None]
    if (lengths.isnan() & own).any():
        return None
    return torch.where(own, scores / lengths, -torch.inf)


def answer(scores: Tensor | None, metric: str) -> Tensor | None:
    """Place of the best choice, the first of equals; None where the metric names no answer."""
    names_one = metric in ANSWERING or metric.endswith(CORRECT)
    return scores.argmax(-1) if scores is not None and names_one else None
