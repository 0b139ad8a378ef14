"""Paired metrics -> one Row: every measure of a task, of a group, or of all tasks pooled.

Errors: within a task, samples of the same document are one cluster. Over ten or more tasks, as in
MMLU's subjects, the tasks are the clusters. Over fewer a cluster-robust error is not to be trusted;
the tasks are then strata: the errors within each are added up, and the result speaks of these tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isnan, log, nan, sqrt

import torch
from scipy import stats
from torch import Tensor

from lm_eval_flips.measures.correlation import auroc, spearman
from lm_eval_flips.measures.divergence import quantile_intervals, summarise
from lm_eval_flips.measures.flips import Flips, count_flips
from lm_eval_flips.measures.margin import Margins, margins
from lm_eval_flips.measures.perplexity import PerplexityChange, perplexity_change
from lm_eval_flips.measures.significance import (
    Interval,
    mean_interval,
    share_interval,
    standard_error,
)
from lm_eval_flips.paired_metric import PairedMetric
from lm_eval_flips.result import Distances, Row, SampleCorrelation

ENOUGH_CLUSTERS = 10
MIXED = "mixed"


def measure(metrics: Sequence[PairedMetric], *, name: str) -> Row:
    """Measure one metric of one task, or pool the metrics of several tasks.

    Args:
        metrics: one for a task; the tasks' own for a group or the pool, every sample counting once.
        name: the row's name.
    """
    first = metrics[0]
    errors = Errors(metrics)
    flips = _flips(metrics)
    distances = _distances(metrics)
    perplexity = _perplexity(metrics)
    before, after = _scores(metrics, perplexity)
    return Row(
        name=name,
        filter=_common([m.pairs.filter for m in metrics]),
        metric=_common([m.metric for m in metrics]),
        n=sum(len(m.rows) for m in metrics),
        baseline_score=before,
        compressed_score=after,
        score_change=after - before,
        flips=flips,
        distances=distances,
        margins=_margins(metrics),
        correlation=_correlation(metrics),
        perplexity=perplexity,
        intervals=_intervals(errors, flips, distances, perplexity, first.metric),
        error_method=errors.method,
        p_value=_p_value(errors, flips, perplexity),
    )


class Errors:
    """Standard errors of means over the samples of some paired metrics."""

    def __init__(self, metrics: Sequence[PairedMetric]) -> None:
        self.metrics = metrics
        self.n = sum(len(m.rows) for m in metrics)
        documents = sum(int(m.clusters.max()) + 1 for m in metrics)
        if len(metrics) >= ENOUGH_CLUSTERS:
            self.method = f"clustered by task ({len(metrics)})"
        elif len(metrics) > 1:
            self.method = f"stratified by task ({len(metrics)})"
        elif documents < self.n:
            self.method = f"clustered by document ({documents} of {self.n} samples)"
        else:
            self.method = "independent samples"

    @property
    def independent(self) -> bool:
        """Whether every sample counts by itself."""
        return self.method == "independent samples"

    def of(self, values: Sequence[Tensor]) -> tuple[float, int]:
        """Standard error and degrees of freedom of the mean of the tasks' values together."""
        if len(values) >= ENOUGH_CLUSTERS:
            place = torch.repeat_interleave(
                torch.arange(len(values)), torch.tensor([len(v) for v in values])
            )
            whole = torch.cat(list(values)).double()
            return standard_error(whole, place.to(whole.device))
        parts = [
            (len(v), *standard_error(v.double(), m.clusters))
            for v, m in zip(values, self.metrics, strict=True)
        ]
        total = sum(n for n, _, _ in parts)
        return (
            sqrt(sum((n * error) ** 2 for n, error, _ in parts)) / total,
            sum(freedom for _, _, freedom in parts),
        )


def _common(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else MIXED


def _scores(
    metrics: Sequence[PairedMetric], perplexity: PerplexityChange | None
) -> tuple[float, float]:
    if perplexity is None:
        before = torch.cat([m.baseline_value for m in metrics])
        after = torch.cat([m.compressed_value for m in metrics])
        return float(before.mean()), float(after.mean())
    losses = perplexity.baseline_loss, perplexity.compressed_loss
    if metrics[0].metric == "bits_per_byte":
        return losses[0] / log(2), losses[1] / log(2)
    return _exp(losses[0]), _exp(losses[1])


def _exp(value: float) -> float:
    return exp(value) if value < 700 else torch.inf


def _flips(metrics: Sequence[PairedMetric]) -> Flips | None:
    before = [m.baseline_correct for m in metrics if m.baseline_correct is not None]
    after = [m.compressed_correct for m in metrics if m.compressed_correct is not None]
    if len(before) < len(metrics):
        return None
    changed = [m.changed for m in metrics if m.changed is not None]
    return count_flips(
        baseline_correct=torch.cat(before),
        compressed_correct=torch.cat(after),
        changed=torch.cat(changed) if len(changed) == len(metrics) else None,
        closed=all(m.baseline_answer is not None for m in metrics),
    )


def _distances(metrics: Sequence[PairedMetric]) -> Distances | None:
    found = [m.divergence for m in metrics if m.divergence is not None]
    if not found:
        return None
    return Distances(
        n=sum(d.kl.numel() for d in found),
        choice_kl=summarise(torch.cat([d.kl for d in found])),
        choice_kl_reverse=summarise(torch.cat([d.reverse_kl for d in found])),
        jensen_shannon=summarise(torch.cat([d.jensen_shannon for d in found])),
        total_variation=summarise(torch.cat([d.total_variation for d in found])),
    )


def _margins(metrics: Sequence[PairedMetric]) -> Margins | None:
    found = [
        (m.margin, m.baseline_correct, m.changed)
        for m in metrics
        if m.margin is not None and m.baseline_correct is not None and m.changed is not None
    ]
    if not found:
        return None
    return margins(
        margin=torch.cat([margin for margin, _, _ in found]),
        correct=torch.cat([correct for _, correct, _ in found]),
        changed=torch.cat([changed for _, _, changed in found]),
    )


def _correlation(metrics: Sequence[PairedMetric]) -> SampleCorrelation | None:
    found = [
        (m.divergence.kl, m.changed, m.flipped)
        for m in metrics
        if m.divergence is not None and m.changed is not None and m.flipped is not None
    ]
    if not found:
        return None
    kl = torch.cat([kl for kl, _, _ in found])
    changed = torch.cat([changed for _, changed, _ in found])
    flipped = torch.cat([flipped for _, _, flipped in found])
    return SampleCorrelation(
        changed=spearman(kl, changed.double()),
        flipped=spearman(kl, flipped.double()),
        detects_flips=auroc(score=kl, positive=flipped),
    )


def _perplexity(metrics: Sequence[PairedMetric]) -> PerplexityChange | None:
    units = [m.units for m in metrics if m.units is not None]
    if len(units) < len(metrics):
        return None
    offsets, clusters = 0, []
    for m in metrics:
        clusters.append(m.clusters + offsets)
        offsets += int(m.clusters.max()) + 1
    return perplexity_change(
        baseline=torch.cat([m.baseline_value for m in metrics]),
        compressed=torch.cat([m.compressed_value for m in metrics]),
        units=torch.cat(units),
        clusters=torch.cat(clusters),
    )


def _intervals(
    errors: Errors,
    flips: Flips | None,
    distances: Distances | None,
    perplexity: PerplexityChange | None,
    metric: str,
) -> dict[str, Interval]:
    metrics = errors.metrics
    if perplexity is not None:
        return _perplexity_intervals(perplexity, metric)
    change = [m.compressed_value - m.baseline_value for m in metrics]
    mean = float(torch.cat(change).mean())
    found = {"score_change": mean_interval(mean, *errors.of(change))}
    if flips is not None:
        found |= _flip_intervals(errors, flips)
    if distances is not None:
        with_choices = [m for m in metrics if m.divergence is not None]
        kls = [m.divergence.kl for m in with_choices if m.divergence is not None]
        of_kl = Errors(with_choices).of(kls)
        found["choice_kl"] = mean_interval(distances.choice_kl.mean, *of_kl)
        quantiles = quantile_intervals(torch.cat(kls))
        found |= {f"choice_kl_{name}": interval for name, interval in quantiles.items()}
    return found


def _perplexity_intervals(change: PerplexityChange, metric: str) -> dict[str, Interval]:
    ratio = change.ratio_interval()
    if metric == "bits_per_byte":
        return {"score_change": change.bits_interval(), "perplexity_ratio": ratio}
    # the baseline's score is given: the change's interval is that of the ratio, times the score
    before = _exp(change.baseline_loss)
    scaled = Interval(before * (ratio.low - 1), before * (ratio.high - 1))
    return {"score_change": scaled, "perplexity_ratio": ratio}


def _flip_intervals(errors: Errors, flips: Flips) -> dict[str, Interval]:
    lost = [_indicator(m.baseline_correct, m.compressed_correct) for m in errors.metrics]
    won = [_indicator(m.compressed_correct, m.baseline_correct) for m in errors.metrics]
    moved = [a + b for a, b in zip(lost, won, strict=True)]
    counts: dict[str, tuple[int | None, list[Tensor]]] = {
        "correct_to_incorrect": (flips.correct_to_incorrect, lost),
        "incorrect_to_correct": (flips.incorrect_to_correct, won),
        "flips": (flips.correct_to_incorrect + flips.incorrect_to_correct, moved),
    }
    if flips.answers_changed is not None:
        changed = [m.changed.double() for m in errors.metrics if m.changed is not None]
        counts["answers_changed"] = (flips.answers_changed, changed)
        if flips.wrong_to_wrong is not None:
            twice = [
                (1 - _either(m.baseline_correct, m.compressed_correct)) * c
                for m, c in zip(errors.metrics, changed, strict=True)
            ]
            every = [a + b for a, b in zip(moved, twice, strict=True)]
            counts["all_flips"] = (int(sum(float(v.sum()) for v in every)), every)
    return {
        name: flips.interval(count)
        if errors.independent
        else share_interval(flips.share(count), flips.n, errors.of(values)[0])
        for name, (count, values) in counts.items()
    }


def _indicator(has: Tensor | None, lacks: Tensor | None) -> Tensor:
    return (has & ~lacks).double() if has is not None and lacks is not None else torch.empty(0)


def _either(left: Tensor | None, right: Tensor | None) -> Tensor:
    return (left | right).double() if left is not None and right is not None else torch.empty(0)


def _p_value(errors: Errors, flips: Flips | None, perplexity: PerplexityChange | None) -> float:
    """Exact McNemar for a binary metric, else Student's t of the paired change."""
    if flips is not None:
        return flips.p_value()
    if perplexity is not None:
        change, error, freedom = (
            perplexity.loss_change,
            perplexity.standard_error,
            perplexity.freedom,
        )
    else:
        values = [m.compressed_value - m.baseline_value for m in errors.metrics]
        change = float(torch.cat(values).mean())
        error, freedom = errors.of(values)
    if isnan(error) or error == 0 or freedom < 1:
        return nan
    return 2 * float(stats.t.sf(abs(change) / error, freedom))
