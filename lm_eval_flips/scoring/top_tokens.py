"""The bounded reference: a baseline's K most likely tokens, and one bin for all others.

Merging outcomes never adds to an f-divergence (the data-processing inequality), so every divergence
between the merged distributions is at most the one over the whole vocabulary; and equal
distributions stay equal, at exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lm_eval_flips.scoring.vocabulary import (
    TokenScores,
    VocabularyDistances,
    token_scores,
    vocabulary_distances,
)
from lm_eval_flips.shapes import Float, Int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TopTokens:
    """The K most likely tokens at each position, the likeliest first.

    ``logprobs`` (nats, float32) has one column more than ``ids``: all other tokens together.
    """

    ids: Int[Tensor, "positions top"]
    logprobs: Float[Tensor, "positions bins"]


def top_tokens(logits: Float[Tensor, "positions tokens"], count: int) -> TopTokens:
    """The ``count`` most likely tokens of each position, and what is left.

    Example:
        >>> found = top_tokens(torch.tensor([[0.1, 0.6, 0.3]]).log(), 2)
        >>> found.ids, found.logprobs.exp()
        (tensor([[1, 2]], dtype=torch.int32), tensor([[0.6000, 0.3000, 0.1000]]))
    """
    ids = logits.topk(min(count, logits.shape[-1]), -1).indices
    # of equals topk takes any, the most likely token is the first of them
    top = logits.argmax(-1, keepdim=True)
    ids = torch.where(ids == top, ids[:, :1], ids)
    ids[:, :1] = top
    return TopTokens(ids=ids.int(), logprobs=_merged(logits, ids))


def bounded_distances(
    *, baseline: TopTokens, compressed: Float[Tensor, "positions tokens"]
) -> VocabularyDistances:
    """Lower bounds of the distances over the whole vocabulary.

    Args:
        baseline: the baseline's most likely tokens.
        compressed: the compressed model's logits, over a vocabulary that holds them.

    Returns:
        ``same_top`` is exact; the baseline's ``lognorm`` is nan, as only some logits are known.

    Example:
        >>> p, q = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.4, 0.4, 0.2]]).log()
        >>> bounded_distances(baseline=top_tokens(p, 1), compressed=q).kl
        tensor([0.0204])
    """
    ids = baseline.ids.long()
    found = vocabulary_distances(baseline=baseline.logprobs, compressed=_merged(compressed, ids))
    unknown = torch.full_like(found.kl, torch.nan)
    return replace(
        found,
        baseline=TokenScores(lognorm=unknown, top=ids[:, 0]),
        compressed=token_scores(compressed),
    )


def _merged(logits: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities of these tokens and, in a last bin, of all others."""
    whole = logits.log_softmax(-1, dtype=torch.float32)
    kept = whole.gather(-1, ids)
    rest = whole.scatter_(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([kept, rest], -1)
