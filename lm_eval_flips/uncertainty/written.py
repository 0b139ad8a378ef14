"""What changed in how answers are written: their length as a ratio, and shares of signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf, isnan, log, nan

import torch

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, t_quantile
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.written import MARKED, length, mark
from lm_eval_flips.uncertainty.drawn import drawn_numbers
from lm_eval_flips.uncertainty.intervals import difference_interval
from lm_eval_flips.uncertainty.judged import judged_numbers
from lm_eval_flips.uncertainty.means import Column, column_means
from lm_eval_flips.uncertainty.row_errors import RowErrors


def row_means(
    metrics: Sequence[PairedMetric],
    errors: RowErrors,
    columns: Mapping[str, Column],
    medians: Mapping[str, Column],
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Means of columns, how answers are written, what a judge says of them, how draws flip."""
    means, intervals = column_means(metrics, errors, columns, medians)
    written, of_written = written_changes(metrics, errors)
    judged, of_judged = judged_numbers(metrics)
    drawn, of_drawn = drawn_numbers(metrics, errors)
    return means | written | judged | drawn, intervals | of_written | of_judged | of_drawn


def written_changes(
    metrics: Sequence[PairedMetric], errors: RowErrors
) -> tuple[dict[str, float], dict[str, Interval]]:
    """``length_ratio``, and the change of each sign's share, with their paired 95 % intervals.

    Args:
        metrics: the row's, one a task; those without written answers count for nothing.
        errors: of the row.

    Returns:
        Values and intervals by key; nothing of what no task has.
    """
    means: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for name in MARKED:
        known, changes = [], []
        for metric in metrics:
            before, after = mark("baseline", name)(metric), mark("compressed", name)(metric)
            if before is not None and after is not None:
                known.append(metric)
                changes.append(after.double() - before.double())
        if known:
            key = f"{name}_change"
            means[key] = float(torch.cat(changes).mean())
            intervals[key] = difference_interval(errors.of(known), changes, binary=True)
    of_length = _length_ratio(metrics, errors)
    if of_length is not None:
        means["length_ratio"], intervals["length_ratio"] = of_length
    return means, intervals


def _length_ratio(
    metrics: Sequence[PairedMetric], errors: RowErrors
) -> tuple[float, Interval] | None:
    """Mean length over the baseline's, by the delta method on its logarithm.

    A ratio of means, as it is what the tokens cost; a mean of ratios has none for empty answers.
    """
    both = [(m, length("baseline")(m), length("compressed")(m)) for m in metrics]
    known = [
        (m, ours, theirs) for m, ours, theirs in both if ours is not None and theirs is not None
    ]
    if not known:
        return None
    before = float(torch.cat([ours for _, ours, _ in known]).mean())
    after = float(torch.cat([theirs for _, _, theirs in known]).mean())
    if not before:
        return (inf if after else nan), NO_INTERVAL
    ratio = after / before
    residuals = [theirs - ratio * ours for _, ours, theirs in known]
    error, freedom = errors.of([m for m, _, _ in known]).of(residuals)
    if not ratio or isnan(error) or freedom <= 0:
        return ratio, NO_INTERVAL
    half = t_quantile(0.95, freedom) * error / after
    return ratio, Interval(exp(log(ratio) - half), exp(log(ratio) + half) if half < 700 else inf)
