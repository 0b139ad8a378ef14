"""Drawn samples -> estimates of what all documents would show.

An estimate has two intervals. The first is of what the full run over these documents would have
shown. The second is of questions like these, as the intervals of a full run are: it adds the error
that the full run itself would have (square and add: Zou and Donner 2008, Stat. Med. 27), and equals
a full run's where all documents are drawn, samples taken as independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.comparison.planned import Estimate
from lm_eval_flips.measures.distance_mean import distance_interval, one_more
from lm_eval_flips.measures.equivalence import Equivalence
from lm_eval_flips.measures.paired_difference import mover
from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.measures.sampling.stratified import (
    stratified_difference_interval,
    stratified_interval,
    stratified_share_interval,
)
from lm_eval_flips.measures.shares import share_interval
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, mean_interval
from lm_eval_flips.measures.tokens import first_values, request_means
from lm_eval_flips.pairs.indicators import indicators, share_key
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.drawn import PARTS, Drawn

KNOWN = 10**9  # degrees of freedom of a share's own error


def shares(drawn: Drawn) -> dict[str, Estimate]:
    """Flips, all_flips, and each direction, as shares of all documents, where all tasks tell."""
    columns = [
        {share_key(name): marks for name, marks in indicators(m).items()} for m in drawn.metrics
    ]
    names = [name for name in PARTS if all(name in own for own in columns)]
    found, documents = {}, drawn.design.documents
    for name in names:
        column = torch.cat([own[name] for own in columns])
        share = drawn.design.mean(column.double())
        found[name] = _estimate(
            share,
            stratified_share_interval(column, drawn.design, expected=drawn.expected[name]),
            share_interval(share, documents, error=0.0, freedom=KNOWN),
            variance=share * (1 - share),
            documents=documents,
        )
    return found


def negative_flip_rate(lost: Estimate, *, correct: float, documents: int) -> Estimate:
    """Losses among the baseline's correct answers, whose share of all documents is ``correct``.

    Where that share is itself estimated, its error goes with that of the losses and makes the
    interval too wide, if anything.
    """
    if not correct > 0:
        return Estimate(value=nan, interval=NO_INTERVAL, general=NO_INTERVAL, plain_samples=nan)
    rate, (low, high) = min(1.0, lost.value / correct), lost.interval
    interval = Interval(low / correct, min(1.0, high / correct))
    full = share_interval(rate, round(correct * documents), error=0.0, freedom=KNOWN)
    return Estimate(
        value=rate,
        interval=interval,
        general=_added(rate, interval, full),
        plain_samples=lost.plain_samples,
    )


def score_change(drawn: Drawn) -> Estimate:
    """The change of the score, a mean over documents."""
    change = _change(drawn)
    return _estimate(
        drawn.design.mean(change),
        _change_interval(drawn, change, level=0.95),
        _full_change_interval(drawn, change, level=0.95),
        variance=drawn.design.spread(change),
        documents=drawn.design.documents,
    )


def equivalence(drawn: Drawn, margin: float) -> Equivalence:
    """The change of the score against a margin, of questions like these."""
    change = _change(drawn)
    mean = drawn.design.mean(change)

    def general(level: float) -> Interval:
        own = _change_interval(drawn, change, level=level)
        return _added(mean, own, _full_change_interval(drawn, change, level=level))

    return Equivalence(margin=margin, change=mean, inner=general(0.9), outer=general(0.95))


def _change(drawn: Drawn) -> Tensor:
    return drawn.column([m.compressed_value - m.baseline_value for m in drawn.metrics])


def _binary(drawn: Drawn) -> bool:
    return all(m.baseline_correct is not None for m in drawn.metrics)


def _change_interval(drawn: Drawn, change: Tensor, *, level: float) -> Interval:
    """Of shares lost and won where the metric is binary, else of any differences."""
    if not _binary(drawn):
        return stratified_interval(change, drawn.design, level=level)
    return stratified_difference_interval(
        change < 0,
        change > 0,
        drawn.design,
        expected_lost=drawn.expected["fell"],
        expected_won=drawn.expected["rose"],
        level=level,
    )


def _full_change_interval(drawn: Drawn, change: Tensor, *, level: float) -> Interval:
    """That of a full run with this change."""
    design = drawn.design
    n = design.documents
    if _binary(drawn):
        lost, won = (round(n * design.mean(c.double())) for c in (change < 0, change > 0))
        return mover(lost=lost, won=won, n=n, level=level)
    return mean_interval(design.mean(change), sqrt(design.spread(change) / n), n - 1, level=level)


def mean(drawn: Drawn, values: Sequence[Tensor]) -> Estimate:
    """The mean of any value that each sample has, which may be below 0."""
    column, design = drawn.column(values), drawn.design
    average, variance = design.mean(column), design.spread(column)
    n = design.documents
    return _estimate(
        average,
        stratified_interval(column, design),
        mean_interval(average, sqrt(variance / n), n - 1),
        variance=variance,
        documents=n,
    )


def distance(drawn: Drawn, values: Sequence[Tensor]) -> Estimate:
    """The mean of a distance that each sample has."""
    column = drawn.column(values)
    return _of_distance(drawn, drawn.design.mean(column), column)


def token_kl(drawn: Drawn, *, first_only: bool) -> Estimate:
    """Mean over requests: the ratio of the samples' sums and numbers of requests (linearised)."""
    sums, counts = [], []
    for metric in drawn.metrics:
        own, numbers = _of_requests(metric, first_only=first_only)
        sums.append(own)
        counts.append(numbers)
    total, requests = drawn.column(sums), drawn.column(counts)
    number = drawn.design.mean(requests)
    ratio = drawn.design.mean(total) / number
    return _of_distance(drawn, ratio, ratio + (total - ratio * requests) / number)


def _of_requests(metric: PairedMetric, *, first_only: bool) -> tuple[Tensor, Tensor]:
    """Each sample's sum over its requests, and their number."""
    device, size = metric.baseline_value.device, len(metric.rows)
    sums = torch.zeros(size, dtype=torch.float64, device=device)
    if metric.tokens is None:
        return sums, sums
    values, counts = metric.tokens.values["kl"], metric.tokens.counts
    own = first_values(values, counts) if first_only else request_means(values, counts)
    owner = metric.tokens.samples
    numbers = torch.bincount(owner, minlength=size).double()
    return sums.index_add(0, owner, own.double()), numbers


def _of_distance(drawn: Drawn, mean: float, values: Tensor) -> Estimate:
    design = drawn.design
    n, variance = design.documents, design.spread(values)
    # as a full run's rows: one value more, judged from those that were drawn, which are the larger
    more = one_more(values, samples=len(values))
    return _estimate(
        mean,
        stratified_interval(values, design, positive=True),
        distance_interval(mean, sqrt(variance / n), n - 1, more=more),
        variance=variance,
        documents=n,
    )


def _estimate(
    value: float, interval: Interval, full: Interval, *, variance: float, documents: int
) -> Estimate:
    """With what plain random sampling would need, for values of this variance."""
    half = (interval.high - interval.low) / 2
    return Estimate(
        value=value,
        interval=interval,
        general=_added(value, interval, full),
        plain_samples=plain_samples(variance=variance, half_width=half, documents=documents),
    )


def _added(value: float, interval: Interval, full: Interval) -> Interval:
    """Both errors together, on each side."""
    return Interval(
        value - hypot(value - interval.low, value - full.low),
        value + hypot(interval.high - value, full.high - value),
    )
