"""What vLLM tells of a distribution: some tokens' log-probabilities, and which is the likeliest.

All other tokens together have what is left. A row over the whole vocabulary that shares it out
evenly gives the known tokens what they have, and every other less than the likeliest; merged to
known tokens and one bin for the rest, it is exact. Nothing else may be read off it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch

from lm_eval_flips.shapes import Float

LEAST = 1e-7  # of the probability: what rounding of float32 hides in the sum of the known


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Log-probabilities (nats) of some tokens at one position; ``top`` is the likeliest of all."""

    logprobs: Mapping[int, float]
    top: int

    def joined(self, other: Known) -> Known:
        """With what another question at the same position gave; where both know, the first."""
        return Known(logprobs={**other.logprobs, **self.logprobs}, top=self.top)


def dense_rows(known: Sequence[Known], *, tokens: int) -> Float[torch.Tensor, "positions tokens"]:
    """Log-probabilities over a vocabulary, what is left shared out among the unknown ones.

    Args:
        known: what is known at each position.
        tokens: size of the vocabulary.

    Example:
        >>> (row,) = dense_rows([Known(logprobs={2: log(0.5), 0: log(0.3)}, top=2)], tokens=4)
        >>> row.exp()
        tensor([0.3000, 0.1000, 0.5000, 0.1000])
    """
    rows = torch.empty(len(known), tokens)
    for row, one in zip(rows, known, strict=True):
        ids = np.fromiter(one.logprobs.keys(), np.int64, len(one.logprobs))
        own = np.fromiter(one.logprobs.values(), np.float64, len(one.logprobs))
        left = max(1.0 - float(np.exp(own).sum()), LEAST)
        row.fill_(log(left / max(1, tokens - len(ids))))
        row[torch.from_numpy(ids)] = torch.from_numpy(own).float()
    return rows
