"""Rank correlations of a row's samples, with intervals that follow the row's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.auroc import Auroc, auroc_interval, placements
from lm_eval_flips.measures.correlation import (
    SampleCorrelation,
    Spearman,
    of_ranks,
    spearman_influence,
    spearman_interval,
)
from lm_eval_flips.measures.ranks import Ranked, mark_ranks
from lm_eval_flips.measures.significance import Interval, normal_quantile, t_quantile
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.row_errors import RowErrors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Related:
    """A task's distances beside its answers, ``[samples]`` each."""

    metric: PairedMetric
    distance: Tensor
    changed: Tensor
    flipped: Tensor


def related(metric: PairedMetric, distance: Tensor | None) -> Related | None:
    """A distance of a metric's samples beside their answers; None where either is unknown."""
    if distance is None or metric.changed is None or metric.flipped is None:
        return None
    return Related(metric=metric, distance=distance, changed=metric.changed, flipped=metric.flipped)


def sample_correlation(
    tasks: Sequence[Related | None], errors: RowErrors
) -> SampleCorrelation | None:
    """How a distance relates to the answers that changed and flipped, over all tasks' samples."""
    known = [task for task in tasks if task is not None]
    if not known:
        return None
    distance = torch.cat([task.distance for task in known])
    changed = torch.cat([task.changed for task in known])
    flipped = torch.cat([task.flipped for task in known])
    of_row = errors.of([task.metric for task in known])
    ordered = Ranked(distance)
    return SampleCorrelation(
        changed=_spearman(distance, ordered, changed, of_row),
        flipped=_spearman(distance, ordered, flipped, of_row),
        detects_flips=_auroc(distance, ordered, flipped, of_row),
    )


def correlation_intervals(
    correlation: SampleCorrelation | None, distance: str
) -> dict[str, Interval]:
    """The intervals of a correlation's numbers by their keys."""
    if correlation is None:
        return {}
    return {
        f"{distance}_with_changed": correlation.changed.interval,
        f"{distance}_with_flipped": correlation.flipped.interval,
        f"{distance}_detects_flips": correlation.detects_flips.interval,
    }


def _spearman(distance: Tensor, ordered: Ranked, marks: Tensor, errors: Errors) -> Spearman:
    if distance.isnan().any():
        return Spearman(n=len(distance), statistic=nan)
    plain = of_ranks(ordered.ranks(), mark_ranks(marks))
    if not abs(plain.statistic) < 1 or not _dependent(errors):
        return plain
    wider = _wider(spearman_influence(distance, marks.double()), errors)
    interval = spearman_interval(plain.statistic, plain.n, wider=wider)
    return replace(plain, interval=interval)


def _auroc(distance: Tensor, ordered: Ranked, marks: Tensor, errors: Errors) -> Auroc:
    if len(errors.metrics) == 1:
        placed = placements(score=distance, positive=marks, ranked=ordered)
    else:
        sizes = torch.tensor(errors.sizes, device=marks.device)
        numbers = torch.arange(len(sizes), device=marks.device)
        tasks = torch.repeat_interleave(numbers, sizes)
        placed = placements(score=distance, positive=marks, tasks=tasks)
    plain = placed.auroc()
    if not plain.standard_error > 0 or not _dependent(errors):
        return plain
    return replace(plain, interval=auroc_interval(plain, wider=_wider(placed.influence(), errors)))


def _dependent(errors: Errors) -> bool:
    """Whether samples depend on each other: strata of single documents do not."""
    return not errors.by_document or errors.documents < errors.n


def _wider(influence: Tensor, errors: Errors) -> float:
    """How many times wider than independent samples' an interval is, never narrower.

    The ratio of the two standard errors of the mean influence, and of their quantiles.
    """
    sizes = [len(metric.clusters) for metric in errors.metrics]
    error, freedom = errors.of(torch.split(influence, sizes))
    alone = sqrt(float(influence.var()) / len(influence))
    if freedom < 1 or not alone > 0:
        return float("nan")
    return max(1.0, error / alone) * t_quantile(0.95, freedom) / normal_quantile(0.95)
