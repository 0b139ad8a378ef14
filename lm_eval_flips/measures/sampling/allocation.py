"""How many samples to draw from each stratum, and how many plain sampling would need.

Source: Cochran, Sampling Techniques (3rd ed. 1977): Neyman's allocation, section 5.5; the size of a
plain random sample, section 4.4. The allocation is exact in whole numbers (Wright 2012, The
American Statistician 66, "The equivalence of Neyman optimum allocation for sampling and equal
proportions for apportioning the U.S. House of Representatives").
"""

from __future__ import annotations

import heapq
from math import ceil, isnan, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import normal_quantile
from lm_eval_flips.shapes import Float, Int

LEAST = 2  # samples of a stratum: one alone shows no spread


def neyman(
    *,
    sizes: Int[Tensor, " strata"],
    spreads: Float[Tensor, " strata"],
    n: int,
    drawn: Int[Tensor, " strata"] | None = None,
) -> Int[Tensor, " strata"]:
    """Share ``n`` draws among strata so that the mean over all documents is known best.

    Every stratum gets two draws, or all its documents where it has fewer; none gets more than it
    has. Above that each draw goes where it lowers the variance most, in the end in proportion to
    size times spread.

    Args:
        sizes: documents of each stratum.
        spreads: standard deviation within each stratum, as it is expected.
        n: draws in total, at most all documents.
        drawn: those of each stratum that were made already, and count among ``n``; None for none.

    Raises:
        ValueError: n is less than the strata need, or more than all documents.

    Example:
        >>> import torch
        >>> sizes, spreads = torch.tensor([100, 100]), torch.tensor([0.3, 0.1])
        >>> neyman(sizes=sizes, spreads=spreads, n=40)
        tensor([30, 10])
    """
    first = least(sizes)
    have, counts = sizes.tolist(), (first if drawn is None else drawn.maximum(first)).tolist()
    left = n - sum(counts)
    if left < 0 or n > sum(have):
        raise ValueError(f"{n} draws do not fit {len(have)} strata of {sum(have)} documents")
    weights = [size * spread for size, spread in zip(have, spreads.tolist(), strict=True)]

    def priority(h: int) -> tuple[float, int]:
        # what one more draw takes from the sum of weight**2 / drawn
        return -weights[h] / sqrt(counts[h] * (counts[h] + 1)), h

    waiting = [priority(h) for h in range(len(have)) if counts[h] < have[h]]
    heapq.heapify(waiting)
    for _ in range(left):
        _, h = heapq.heappop(waiting)
        counts[h] += 1
        if counts[h] < have[h]:
            heapq.heappush(waiting, priority(h))
    return torch.tensor(counts, dtype=torch.int64)


def least(sizes: Int[Tensor, " strata"]) -> Int[Tensor, " strata"]:
    """The fewest draws of each stratum: two, or all of its documents.

    Example:
        >>> import torch
        >>> least(torch.tensor([1, 2, 9]))
        tensor([1, 2, 2])
    """
    return sizes.clamp(max=LEAST)


def plain_samples(
    *, variance: float, half_width: float, documents: int, level: float = 0.95
) -> float:
    """Samples of plain random sampling whose interval of a mean is as narrow, of these documents.

    All documents where the half-width is 0; nan where either is undefined, or values do not vary.

    Args:
        variance: of one document's value, ``share * (1 - share)`` for a share.
        half_width: half the width of the interval that is to be matched.
        documents: how many there are.
        level: of the interval.

    Example:
        >>> plain_samples(variance=0.05 * 0.95, half_width=0.01, documents=3000)
        1135.0
    """
    if isnan(variance) or isnan(half_width) or variance <= 0:
        return nan
    if half_width <= 0:
        return float(documents)
    unlimited = variance * (normal_quantile(level) / half_width) ** 2
    return float(ceil(unlimited / (1 + unlimited / documents)))
