"""Numbers that are the mean of a per-sample value: measured with the row's errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lm_eval_flips.measures.shares import share_interval, wilson
from lm_eval_flips.measures.significance import Interval, mean_interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.row_errors import RowErrors

Column = Callable[[PairedMetric], Tensor | None]


def column_means(
    metrics: Sequence[PairedMetric], errors: RowErrors, columns: Mapping[str, Column]
) -> tuple[dict[str, float], dict[str, Interval]]:
    """The mean of each column over the samples of those metrics that have it, and its interval.

    Args:
        metrics: the row's, one a task.
        errors: of the row.
        columns: per-sample values by the key of their mean; marks are shares.
    """
    means, intervals = {}, {}
    for key, column in columns.items():
        known = [(m, values_of_task) for m in metrics if (values_of_task := column(m)) is not None]
        if not known:
            continue
        values = [values_of_task for _, values_of_task in known]
        whole = torch.cat(values)
        mean = float(whole.double().mean())
        of_row = errors.of([metric for metric, _ in known])
        means[key] = mean
        if whole.dtype == torch.bool:
            intervals[key] = _share(of_row, values, mean)
        else:
            intervals[key] = mean_interval(mean, *of_row.of(values))
    return means, intervals


def _share(errors: Errors, marks: Sequence[Tensor], share: float) -> Interval:
    if errors.independent:
        return wilson(round(share * errors.n), errors.n)
    error, freedom = errors.of(marks)
    n = errors.documents if error == 0 else errors.n
    return share_interval(share, n, error, freedom)
