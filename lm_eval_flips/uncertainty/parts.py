"""Shares and means of those samples that are in a part: losses among flips, changes of a margin.

Both numbers of such a ratio are counted from the samples, so its error is that of the samples'
residuals (delta method), with the row's clusters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.measures.shares import share_interval, wilson
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, mean_interval
from lm_eval_flips.uncertainty.errors import Errors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Of each task which samples are counted, and among which: ``[samples]`` bool each."""

    counted: Sequence[Tensor]
    among: Sequence[Tensor]


def share_intervals(errors: Errors, parts: Mapping[str, Part]) -> dict[str, Interval]:
    """The 95 % interval of each share ``counted / among``; nan where there is nothing among."""
    names = list(parts)
    counts = torch.stack(
        [
            torch.stack([torch.cat(list(marks)).sum() for marks in (part.counted, part.among)])
            for part in parts.values()
        ]
    ).tolist()
    if errors.independent:
        return {name: wilson(*count) for name, count in zip(names, counts, strict=True)}
    shares = [count / total if total else 0.0 for count, total in counts]
    residuals = [
        [
            part.counted[task].double() - share * part.among[task].double()
            for part, share in zip(parts.values(), shares, strict=True)
        ]
        for task in range(len(errors.metrics))
    ]
    row_errors, freedom = errors.of_columns(residuals)
    intervals = {}
    for name, share, (_, total), error in zip(names, shares, counts, row_errors, strict=True):
        if not total:
            intervals[name] = NO_INTERVAL
            continue
        seen = total * errors.documents // errors.n if error == 0 else total
        intervals[name] = share_interval(share, seen, error * errors.n / total, freedom)
    return intervals


def mean_intervals(
    errors: Errors, values: Sequence[Tensor], among: Mapping[str, Sequence[Tensor]]
) -> dict[str, Interval]:
    """The 95 % interval of the mean of each part's values, a ratio of sum and number.

    Args:
        errors: the row's.
        values: of each task's samples.
        among: which of them are meant, by name.
    """
    whole = torch.cat(list(values)).double()
    marks = torch.stack([torch.cat(list(part)) for part in among.values()]).double()
    totals, sums = marks.sum(1), (marks * whole).sum(1)
    means = (sums / totals).tolist()  # nan where a part is empty
    residuals = [
        [
            part[task] * (of_task - (0.0 if mean != mean else mean))
            for part, mean in zip(among.values(), means, strict=True)
        ]
        for task, of_task in enumerate(values)
    ]
    row_errors, freedom = errors.of_columns(residuals)
    return {
        name: mean_interval(mean, error * errors.n / total, freedom) if total > 1 else NO_INTERVAL
        for name, mean, total, error in zip(among, means, totals.tolist(), row_errors, strict=True)
    }
