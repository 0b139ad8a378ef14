"""Numbers that are the mean or median of a per-sample value: measured with the row's errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lm_eval_flips.measures.divergence import quantile
from lm_eval_flips.measures.shares import share_interval, wilson
from lm_eval_flips.measures.significance import Interval, mean_interval
from lm_eval_flips.pairs.known_values import known_values
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.intervals import interval_of_quantile
from lm_eval_flips.uncertainty.row_errors import RowErrors

Column = Callable[[PairedMetric], Tensor | None]


def column_means(
    metrics: Sequence[PairedMetric],
    errors: RowErrors,
    columns: Mapping[str, Column],
    medians: Mapping[str, Column] | None = None,
) -> tuple[dict[str, float], dict[str, Interval]]:
    """The mean of each column over the samples that have it, and its interval.

    Args:
        metrics: the row's, one a task.
        errors: of the row.
        columns: per-sample values by the key of their mean; marks are shares. A sample whose value
            is nan, or whose mark is unknown (int8, -1), has none.
        medians: the same by the key of their median.
    """
    means, intervals = {}, {}
    for key, column in {**columns, **(medians or {})}.items():
        known = [known_values(m, own) for m in metrics if (own := column(m)) is not None]
        known = [(metric, own) for metric, own in known if len(own)]
        if not known:
            continue
        values = [own for _, own in known]
        whole = torch.cat(values)
        of_row = errors.of([metric for metric, _ in known])
        if medians is not None and key in medians:
            means[key] = quantile(whole.double(), 0.5)
            intervals[key] = interval_of_quantile(of_row, values, 0.5)
            continue
        means[key] = float(whole.double().mean())
        if whole.dtype == torch.bool:
            intervals[key] = _share(of_row, values, means[key])
        else:
            intervals[key] = mean_interval(means[key], *of_row.of(values))
    return means, intervals


def _share(errors: Errors, marks: Sequence[Tensor], share: float) -> Interval:
    if errors.independent:
        return wilson(round(share * errors.n), errors.n)
    error, freedom = errors.of(marks)
    n = errors.documents if error == 0 else errors.n
    return share_interval(share, n, error, freedom)
