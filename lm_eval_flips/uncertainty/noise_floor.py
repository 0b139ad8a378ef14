"""How much of a distance is there between two runs of the baseline itself: the noise floor.

Another batch size, device, kernel or dtype rounds otherwise, and some answers change. What a
compressed model moves is told apart from that by the excess: sample by sample, its own change minus
that of the baseline's second run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.comparison.result import Excess
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.intervals import difference_interval

Columns = Callable[[PairedMetric], Tensor | None]

# What is held against the floor, and where it is found.
HELD: Mapping[str, Columns] = {
    "flips": lambda metric: metric.flipped,
    "all_flips": lambda metric: indicators(metric).get("all_flips"),
    "choice_kl": lambda metric: None if metric.divergence is None else metric.divergence.kl,
    "token_kl": lambda metric: metric.token_kl,
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Aligned:
    """The samples that both the compressed run and the floor have."""

    metric: PairedMetric
    values: Tensor
    floor: Tensor
    binary: bool


def excesses(metrics: Sequence[PairedMetric], floors: Sequence[PairedMetric]) -> dict[str, Excess]:
    """Each distance of a row beside its noise floor, with the paired interval of the difference.

    Args:
        metrics: the compressed run's metrics, one a task.
        floors: those of the baseline's second run, in the same order.
    """
    found = {}
    for name, column in HELD.items():
        both = [_aligned(m, f, column) for m, f in zip(metrics, floors, strict=True)]
        measured = [own for own in both if own is not None]
        if measured:
            found[name] = _excess(measured)
    return found


def _aligned(metric: PairedMetric, floor: PairedMetric, column: Columns) -> _Aligned | None:
    values, noise = column(metric), column(floor)
    if values is None or noise is None:
        return None
    _, ours, theirs = np.intersect1d(metric.doc_ids, floor.doc_ids, return_indices=True)
    if not len(ours):
        return None
    rows = torch.from_numpy(ours).to(values.device)
    return _Aligned(
        metric=metric.at(rows),
        values=values[rows].double(),
        floor=noise[torch.from_numpy(theirs).to(noise.device)].double(),
        binary=values.dtype == torch.bool,
    )


def _excess(aligned: Sequence[_Aligned]) -> Excess:
    errors = Errors([own.metric for own in aligned])
    return Excess(
        value=float(torch.cat([own.values for own in aligned]).mean()),
        floor=float(torch.cat([own.floor for own in aligned]).mean()),
        interval=difference_interval(
            errors,
            [own.values - own.floor for own in aligned],
            binary=all(own.binary for own in aligned),
        ),
        n=errors.n,
    )
