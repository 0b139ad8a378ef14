"""Intervals of values over the vocabulary, whose requests go with their samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.distance_mean import distance_interval, one_more
from lm_eval_flips.measures.significance import Interval, mean_interval
from lm_eval_flips.measures.tokens import first_values, request_means
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.tokens import TokenValues
from lm_eval_flips.uncertainty.ends import above_0
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.row_errors import RowErrors

# Each stored value under the key of its number; whether it is never below 0.
KEYS: Mapping[str, tuple[str, bool]] = {
    "kl": ("token_kl", True),
    "reverse_kl": ("token_kl_reverse", True),
    "jensen_shannon": ("token_jensen_shannon", True),
    "total_variation": ("token_total_variation", True),
    "same_top": ("same_top", True),
    "logprob_change": ("logprob_change", False),
}

OfRequests = Callable[[Tensor, Tensor], Tensor]


def token_intervals(
    metrics: Sequence[PairedMetric], errors: RowErrors, bootstrap: Bootstrap | None = None
) -> dict[str, Interval]:
    """The 95 % intervals of means over requests and over first positions, by their keys.

    ``bootstrap`` draws those of token_kl; None for the usual ones of a ratio of sums.
    """
    measured = [m for m in metrics if m.tokens is not None]
    tokens = [m.tokens for m in measured if m.tokens is not None]
    if not tokens:
        return {}
    of_row = errors.of(measured)
    names = [name for name in KEYS if all(name in of_task.values for of_task in tokens)]
    first_only = any(of_task.first_only for of_task in tokens)
    firsts = _intervals(of_row, tokens, names, first_values, bootstrap)
    means = firsts if first_only else _intervals(of_row, tokens, names, request_means, bootstrap)
    return means | {f"{key}_first_position": interval for key, interval in firsts.items()}


def _intervals(
    errors: Errors,
    tokens: Sequence[TokenValues],
    names: Sequence[str],
    of_requests: OfRequests,
    bootstrap: Bootstrap | None,
) -> dict[str, Interval]:
    values = {
        name: [of_requests(of_task.values[name].double(), of_task.counts) for of_task in tokens]
        for name in names
    }
    ratios = _ratios(errors, tokens, list(values.values()), [KEYS[name][1] for name in names])
    intervals = dict(zip(names, ratios, strict=True))
    if bootstrap is not None and "kl" in values:
        owners = [of_task.samples for of_task in tokens]
        drawn = bootstrap.intervals(errors.strata(values["kl"], owners))
        intervals["kl"] = above_0(drawn.mean)
    return {KEYS[name][0]: interval for name, interval in intervals.items()}


def _ratios(
    errors: Errors,
    tokens: Sequence[TokenValues],
    columns: Sequence[Sequence[Tensor]],
    positive: Sequence[bool],
) -> list[Interval]:
    """Means over requests as ratios of the samples' sums and counts (delta method)."""
    whole = torch.stack([torch.cat(list(column)) for column in columns])
    requests = whole.shape[1]
    means = whole.mean(1).tolist()
    residuals: list[list[Tensor]] = []
    sums: list[list[Tensor]] = []
    for task, (metric, of_task) in enumerate(zip(errors.metrics, tokens, strict=True)):
        values = torch.stack([column[task] for column in columns], 1)
        centre = torch.tensor(means, dtype=torch.float64, device=values.device)
        for kept, column in ((residuals, values - centre), (sums, values)):
            empty = torch.zeros(
                (len(metric.rows), len(columns)), dtype=torch.float64, device=values.device
            )
            empty.index_add_(0, of_task.samples, column)
            kept.append(list(empty.unbind(1)))
    row_errors, freedom = errors.of_columns(residuals)
    share = errors.n / requests
    intervals = []
    for place, (mean, error) in enumerate(zip(means, row_errors, strict=True)):
        if not positive[place]:
            intervals.append(mean_interval(mean, error * share, freedom))
            continue
        units = torch.cat(errors.sums([task[place] for task in sums]))
        more = one_more(units, samples=requests)
        intervals.append(distance_interval(mean, error * share, freedom, more=more))
    return intervals
