"""Paired samples of a plan -> what all documents would show, for tasks, groups and the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.intervals import indicators
from lm_eval_flips.measures.allocation import plain_samples
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.measures.stratified import (
    Design,
    stratified_difference_interval,
    stratified_interval,
    stratified_share_interval,
)
from lm_eval_flips.measures.tokens import first_values, request_means
from lm_eval_flips.paired_metric import PairedMetric
from lm_eval_flips.planning.pairs import PlannedSamples
from lm_eval_flips.result import Estimate, PlannedRow
from lm_eval_flips.row import MIXED

# Which of a plan's expected rates add up to a share's.
PARTS = {
    "all_flips": ("all_flips",),
    "flips": ("lost", "won"),
    "correct_to_incorrect": ("lost",),
    "incorrect_to_correct": ("won",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRows:
    """Makes rows from planned samples, with a margin of equivalence where one is given."""

    samples: PlannedSamples
    margin: float | None = None

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> PlannedRow:
        """What the metrics of one or several tasks show of all their documents."""
        drawn = Drawn.of(self.samples, metrics)
        estimates = _shares(drawn) | _distances(self.samples, metrics)
        estimates["score_change"] = _score_change(drawn)
        return PlannedRow(
            name=name,
            filter=_common([m.pairs.filter for m in metrics]),
            metric=_common([m.metric for m in metrics]),
            n=len(drawn.design.stratum),
            documents=drawn.design.documents,
            baseline_score=self._baseline_score(drawn),
            higher_is_better=all(m.higher_is_better for m in metrics),
            estimates=estimates,
            equivalence=None if self.margin is None else _equivalence(drawn, self.margin),
        )

    def _baseline_score(self, drawn: Drawn) -> float:
        known, total = 0.0, 0
        for metric in drawn.metrics:
            pairs = metric.pairs
            score = self.samples.score(pairs.task, pairs.filter, metric.metric)
            if score is None:
                return drawn.design.mean(drawn.column([m.baseline_value for m in drawn.metrics]))
            documents = self.samples.plan.tasks[pairs.task].documents
            known, total = known + documents * score, total + documents
        return known / total


def can_be_planned(metric: PairedMetric) -> bool:
    """Whether a metric is a mean over documents that all drawn samples have."""
    return metric.units is None and len(metric.rows) == len(metric.pairs.doc_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The drawn samples of some tasks as one stratified sample."""

    metrics: Sequence[PairedMetric]
    design: Design
    expected: dict[str, Tensor]

    @classmethod
    def of(cls, samples: PlannedSamples, metrics: Sequence[PairedMetric]) -> Drawn:
        """Put the strata of the tasks in one row."""
        tasks = [samples.plan.tasks[m.pairs.task] for m in metrics]
        device = metrics[0].baseline_value.device
        designs = [task.design() for task in tasks]
        starts = torch.tensor([0, *(len(own.sizes) for own in designs[:-1])]).cumsum(0)
        stratum = [own.stratum + start for own, start in zip(designs, starts, strict=True)]
        expected = [_expected(samples, metric) for metric in metrics]
        return cls(
            metrics=metrics,
            design=Design(
                sizes=torch.cat([own.sizes for own in designs]).to(device),
                drawn=torch.cat([own.drawn for own in designs]).to(device),
                stratum=torch.cat(stratum).to(device),
            ),
            expected={
                name: torch.cat([own[name] for own in expected]).to(device) for name in expected[0]
            },
        )

    def column(self, values: Sequence[Tensor]) -> Tensor:
        """The tasks' values in one row, each the sample's of its place."""
        return torch.cat(list(values)).double()

    def estimate(self, value: float, interval: Interval, variance: float) -> Estimate:
        """With what plain random sampling would need, for values of this variance."""
        half = (interval.high - interval.low) / 2
        return Estimate(
            value=value,
            interval=interval,
            plain_samples=plain_samples(
                variance=variance, half_width=half, documents=self.design.documents
            ),
        )


def _expected(samples: PlannedSamples, metric: PairedMetric) -> dict[str, Tensor]:
    """Expected rates of a task's strata, by what is counted; only their ratios matter.

    "fell" and "rose" are what makes the score lower and higher.
    """
    pairs = metric.pairs
    task = samples.plan.tasks[pairs.task]
    asked = (task.filter, task.metric) == (pairs.filter, metric.metric)
    if asked and samples.score(pairs.task, pairs.filter, metric.metric) is not None:
        found = {
            name: torch.stack([task.expected(part) for part in parts]).sum(0)
            for name, parts in PARTS.items()
        }
    else:
        # strata are by the answers of another metric, or to other prompts: all may be lost or won
        found = dict.fromkeys(PARTS, task.expected("all_flips"))
    lost, won = found["correct_to_incorrect"], found["incorrect_to_correct"]
    fell, rose = (lost, won) if metric.higher_is_better else (won, lost)
    return {**found, "fell": fell, "rose": rose}


def _common(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else MIXED


def _columns(drawn: Drawn) -> dict[str, Tensor]:
    """Which samples count as what, where all tasks tell."""
    columns = [indicators(m) for m in drawn.metrics]
    names = [name for name in columns[0] if all(name in own for own in columns)]
    return {name: torch.cat([own[name] for own in columns]) for name in names if name in PARTS}


def _shares(drawn: Drawn) -> dict[str, Estimate]:
    found = {}
    for name, column in _columns(drawn).items():
        share = drawn.design.mean(column.double())
        interval = stratified_share_interval(column, drawn.design, expected=drawn.expected[name])
        found[name] = drawn.estimate(share, interval, share * (1 - share))
    if "correct_to_incorrect" in found:
        found["negative_flip_rate"] = _negative_flip_rate(drawn, found["correct_to_incorrect"])
    return found


def _negative_flip_rate(drawn: Drawn, lost: Estimate) -> Estimate:
    """Losses among the baseline's correct answers.

    That share is known or estimated with little error, since strata are by correctness; what error
    it has goes with that of the losses and makes the interval too wide, if anything.
    """
    correct = drawn.column(
        [m.baseline_correct for m in drawn.metrics if m.baseline_correct is not None]
    )
    share = drawn.design.mean(correct)
    if not share:
        return Estimate(value=nan, interval=Interval(nan, nan), plain_samples=nan)
    low, high = lost.interval
    return Estimate(
        value=lost.value / share,
        interval=Interval(low / share, min(1.0, high / share)),
        plain_samples=lost.plain_samples,
    )


def _score_change(drawn: Drawn) -> Estimate:
    change = drawn.column([m.compressed_value - m.baseline_value for m in drawn.metrics])
    return drawn.estimate(
        drawn.design.mean(change), _change_interval(drawn), drawn.design.spread(change)
    )


def _change_interval(drawn: Drawn, *, level: float = 0.95) -> Interval:
    """Of shares lost and won where the metric is binary, else of any differences."""
    change = drawn.column([m.compressed_value - m.baseline_value for m in drawn.metrics])
    if any(m.baseline_correct is None for m in drawn.metrics):
        return stratified_interval(change, drawn.design, level=level)
    return stratified_difference_interval(
        change < 0,
        change > 0,
        drawn.design,
        expected_lost=drawn.expected["fell"],
        expected_won=drawn.expected["rose"],
        level=level,
    )


def _equivalence(drawn: Drawn, margin: float) -> Equivalence:
    change = drawn.column([m.compressed_value - m.baseline_value for m in drawn.metrics])
    return Equivalence(
        margin=margin,
        change=drawn.design.mean(change),
        inner=_change_interval(drawn, level=0.9),
        outer=_change_interval(drawn),
    )


def _distances(samples: PlannedSamples, metrics: Sequence[PairedMetric]) -> dict[str, Estimate]:
    """Mean KL over the choices and over the vocabulary, of the tasks that have them."""
    found = {}
    with_choices = [m for m in metrics if m.divergence is not None]
    if with_choices:
        drawn = Drawn.of(samples, with_choices)
        kl = drawn.column([m.divergence.kl for m in with_choices if m.divergence is not None])
        interval = stratified_interval(kl, drawn.design, positive=True)
        found["choice_kl"] = drawn.estimate(
            drawn.design.mean(kl), interval, drawn.design.spread(kl)
        )
    measured = [m for m in metrics if m.tokens is not None]
    if measured:
        first_only = any(m.tokens.first_only for m in measured if m.tokens is not None)
        name = "token_kl_first_position" if first_only else "token_kl"
        found[name] = _token_kl(Drawn.of(samples, measured), first_only=first_only)
    return found


def _token_kl(drawn: Drawn, *, first_only: bool) -> Estimate:
    """Mean over requests: the ratio of the samples' sums and numbers of requests (linearised)."""
    sums, counts = [], []
    for metric in drawn.metrics:
        if metric.tokens is None:
            continue
        values, owner = metric.tokens.values["kl"], metric.tokens.samples
        own = (
            first_values(values, metric.tokens.counts)
            if first_only
            else request_means(values, metric.tokens.counts)
        ).double()
        empty = torch.zeros(len(metric.rows), dtype=torch.float64)
        sums.append(empty.index_add(0, owner, own))
        counts.append(empty.index_add(0, owner, torch.ones_like(own)))
    total, requests = (
        drawn.column(parts).to(drawn.design.sizes.device) for parts in (sums, counts)
    )
    number = drawn.design.mean(requests)
    ratio = drawn.design.mean(total) / number
    residuals = (total - ratio * requests) / number
    interval = stratified_interval(ratio + residuals, drawn.design, positive=True)
    return drawn.estimate(ratio, interval, drawn.design.spread(residuals))
