"""How much of a distance is there between two runs of the baseline itself: the noise floor.

Another batch size, device, kernel or dtype rounds otherwise, and some answers change. What a
compressed model moves is told apart from that by the excess: sample by sample, its own change minus
that of the baseline's second run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.intervals import difference_interval
from lm_eval_flips.uncertainty.row_errors import RowErrors

FloorVerdict = Literal["beyond", "at most twice", "not told apart"]
WORDS: Mapping[FloorVerdict, str] = {
    "beyond": "beyond the noise floor",
    "at most twice": "at most twice the noise floor",
    "not told apart": "not told apart from the noise floor (n too small)",
}

Column = Callable[[PairedMetric], Tensor | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A distance beside its noise floor, over the ``n`` samples that both have.

    ``floor`` is what a second run of the baseline gives; ``interval`` is the 95 % interval of the
    excess, paired sample by sample.
    """

    value: float
    floor: float
    interval: Interval
    n: int

    @property
    def excess(self) -> float:
        """What the compressed run moves beyond the floor."""
        return self.value - self.floor

    @property
    def within_floor(self) -> bool:
        """Whether the excess may be nothing: its interval is not wholly above 0.

        That is no evidence that it is: few samples tell nothing from the floor. Not so without an
        interval, which shows nothing.
        """
        return self.interval.low <= 0

    @property
    def verdict(self) -> FloorVerdict:
        """Beyond the floor, at most twice the floor, or not told apart from it: too few samples.

        The second where the whole interval lies below the floor itself, which is the margin.

        Example:
            >>> Excess(value=0.02, floor=0.02, interval=Interval(-0.01, 0.01), n=900).verdict
            'at most twice'
        """
        if self.interval.low > 0:
            return "beyond"
        return "at most twice" if self.interval.high <= self.floor else "not told apart"

    @property
    def words(self) -> str:
        """The verdict in words."""
        return WORDS[self.verdict]


class _Aligned(NamedTuple):
    """A task's samples that both the compressed run and the floor have: their rows in each."""

    both: PairedMetric
    metric: PairedMetric
    floor: PairedMetric
    rows: Tensor
    floor_rows: Tensor


def excesses(
    metrics: Sequence[PairedMetric], floors: Sequence[PairedMetric], held: Mapping[str, Column]
) -> dict[str, Excess]:
    """Each held number of a row beside its noise floor, with the interval of the difference.

    Args:
        metrics: the compressed run's metrics, one a task.
        floors: those of the baseline's second run, in the same order.
        held: which numbers, each the mean of such per-sample values; None where they are undefined.
    """
    pairs = [_aligned(m, f) for m, f in zip(metrics, floors, strict=True)]
    tasks = [task for task in pairs if task is not None]
    if not tasks:
        return {}
    errors = RowErrors([task.both for task in tasks])
    by_name = {}
    for name, column in held.items():
        excess = _excess(tasks, column, errors)
        if excess is not None:
            by_name[name] = excess
    return by_name


def _aligned(metric: PairedMetric, floor: PairedMetric) -> _Aligned | None:
    _, ours, theirs = np.intersect1d(metric.doc_ids, floor.doc_ids, return_indices=True)
    if not len(ours):
        return None
    rows = torch.from_numpy(ours).to(metric.clusters.device)
    return _Aligned(
        both=metric.at(rows),
        metric=metric,
        floor=floor,
        rows=rows,
        floor_rows=torch.from_numpy(theirs).to(floor.clusters.device),
    )


def _excess(tasks: Sequence[_Aligned], column: Column, errors: RowErrors) -> Excess | None:
    """Of those tasks that have the values in both runs; None for none."""
    metrics, values, noise = [], [], []
    for task in tasks:
        compressed, baseline = column(task.metric), column(task.floor)
        if compressed is not None and baseline is not None:
            own, rest = compressed[task.rows], baseline[task.floor_rows]
            # nan of one that was not measured
            known = ~(own.isnan() | rest.isnan()) if own.is_floating_point() else own == own
            everything = bool(known.all())
            metrics.append(task.both if everything else task.both.at(known.nonzero()[:, 0]))
            values.append(own[known])
            noise.append(rest[known])
    if not sum(map(len, values)):
        return None
    differences = [
        of_task.double() - rest.double() for of_task, rest in zip(values, noise, strict=True)
    ]
    of_row = errors.of(metrics)
    return Excess(
        value=float(torch.cat(values).double().mean()),
        floor=float(torch.cat(noise).double().mean()),
        interval=difference_interval(
            of_row, differences, binary=all(of_task.dtype == torch.bool for of_task in values)
        ),
        n=of_row.n,
    )
