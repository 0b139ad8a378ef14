"""The distances between both models' distributions over the choices, for every metric of a task."""

from __future__ import annotations

from torch import Tensor

from lm_eval_flips.measures.divergence import Divergence, choice_divergence
from lm_eval_flips.pairs.pairing import Pairs


def divergence_of(pairs: Pairs, rows: Tensor | None) -> Divergence | None:
    """Of the models' own distributions over the choices, whatever numbers the metric compares.

    Log-likelihoods divided by lengths make a flatter distribution that is neither model's. Of all
    rows it is every metric's, and computed once.
    """
    if pairs.kind != "choices":
        return None
    both = [side.loglikelihoods for side in (pairs.baseline, pairs.compressed)]
    if rows is not None:
        both = [side[rows] for side in both]
    elif "divergence" in pairs.known:
        known: Divergence = pairs.known["divergence"]
        return known
    found = choice_divergence(baseline=both[0], compressed=both[1])
    if rows is None:
        pairs.known["divergence"] = found
    return found
