"""The 95 % interval of every number of a row, from errors that know what is independent.

One source: what a row's records hold of intervals is taken from here, and every number uses the
errors of the row's samples, so that a verdict on one never rests on other clusters than another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.distance_mean import distance_interval, one_more_of_each
from lm_eval_flips.measures.divergence import DISTANCES
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.ordered import Ordered
from lm_eval_flips.measures.paired_difference import mover, mover_interval
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.shares import share_interval, wilson
from lm_eval_flips.measures.significance import Interval, mean_interval
from lm_eval_flips.pairs.indicators import indicators, share_key
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.ends import above_0, agreeing
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.parts import Part, share_intervals
from lm_eval_flips.uncertainty.row_errors import RowErrors


def score_intervals(
    errors: Errors,
    change: Sequence[Tensor],
    flips: Flips | None,
    perplexity: PerplexityChange | None,
    p_value: float,
) -> dict[str, Interval]:
    """Of the change of the score, whatever it is, and of a ratio of perplexities."""
    if perplexity is None:
        return {"score_change": score_interval(errors, change, flips, p_value)}
    ratio, bits = perplexity.ratio_interval(), perplexity.bits_interval()
    of_ratio = {"perplexity_ratio": ratio, "bits_change": bits}
    if errors.metrics[0].metric == "bits_per_byte":
        return {"score_change": bits, **of_ratio}
    # the baseline's score is given: the change's interval is that of the ratio, times the score
    before = perplexity.baseline_perplexity
    return {
        "score_change": Interval(before * (ratio.low - 1), before * (ratio.high - 1)),
        **of_ratio,
    }


def score_interval(
    errors: Errors,
    change: Sequence[Tensor],
    flips: Flips | None,
    p_value: float,
    *,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean change of a score.

    It holds 0 where its test, of this p, calls it no change.
    """
    interval = difference_interval(errors, change, binary=flips is not None, level=level)
    return agreeing(interval, p_value, level=level)


def difference_interval(
    errors: Errors, differences: Sequence[Tensor], *, binary: bool, level: float = 0.95
) -> Interval:
    """Interval of the mean of paired differences; of shares where they are -1, 0 and 1.

    Of shares by MOVER, which keeps its level for few changes, all of them in one direction, as
    Wald's does not, nor Bonett and Price's.
    """
    whole = torch.cat(list(differences))
    if not binary:
        return mean_interval(float(whole.mean()), *errors.of(differences), level=level)
    lost, won = int((whole < 0).sum()), int((whole > 0).sum())
    if errors.independent:
        return mover(lost=lost, won=won, n=errors.n, level=level)
    columns = [[change < 0, change > 0, change] for change in differences]
    (of_lost, of_won, of_both), freedom = errors.of_columns(columns)
    return mover_interval(
        lost=lost / errors.n,
        won=won / errors.n,
        # what moved nowhere, or alike in every cluster, is worth a document or cluster each
        n=errors.documents,
        errors=(of_lost, of_won, of_both),
        freedom=freedom,
        level=level,
    )


def flip_intervals(errors: Errors, flips: Flips) -> dict[str, Interval]:
    """Of flips, of each kind of change, and of the shares that are lost."""
    if errors.independent:
        return _of_counts(flips)
    marks = [indicators(m) for m in errors.metrics]
    names = [name for name in marks[0] if all(name in of_task for of_task in marks)]
    counts = counts_of(flips)
    of_names, freedom = errors.of_columns([[of_task[name] for name in names] for of_task in marks])
    intervals = {}
    for name, error in zip(names, of_names, strict=True):
        n = errors.documents if error == 0 else flips.n
        intervals[share_key(name)] = share_interval(flips.share(counts[name]), n, error, freedom)
    lost = [of_task["correct_to_incorrect"] for of_task in marks]
    correct = [m.baseline_correct for m in errors.metrics if m.baseline_correct is not None]
    flipped = [of_task["flips"] for of_task in marks]
    parts = {
        "loss_share": Part(counted=lost, among=flipped),
        "negative_flip_rate": Part(counted=lost, among=correct),
    }
    return intervals | share_intervals(errors, parts)


def _of_counts(flips: Flips) -> dict[str, Interval]:
    """The same of independent samples, of which the counts tell everything."""
    intervals = {
        share_key(name): wilson(count, flips.n) for name, count in counts_of(flips).items()
    }
    lost, won = flips.correct_to_incorrect, flips.incorrect_to_correct
    return {
        **intervals,
        "loss_share": wilson(lost, lost + won),
        "negative_flip_rate": wilson(lost, flips.baseline_correct),
    }


def counts_of(flips: Flips) -> dict[str, int]:
    """How many samples have each mark of ``indicators``, in their order."""
    changed, wrong = flips.answers_changed, flips.wrong_to_wrong
    moved = flips.correct_to_incorrect + flips.incorrect_to_correct
    counts = {
        "flips": moved,
        "correct_to_incorrect": flips.correct_to_incorrect,
        "incorrect_to_correct": flips.incorrect_to_correct,
        "answers_changed": changed,
        "wrong_to_wrong": wrong,
        "all_flips": None if wrong is None else moved + wrong,
    }
    return {name: count for name, count in counts.items() if count is not None}


def margin_change_interval(
    metrics: Sequence[PairedMetric], errors: RowErrors
) -> dict[str, Interval]:
    """Of the mean change of the signed margin, where samples have choices."""
    measured = [m for m in metrics if m.margin_change is not None]
    if not measured:
        return {}
    changes = [m.margin_change for m in measured if m.margin_change is not None]
    mean = float(torch.cat(changes).mean())
    return {"margin_change": mean_interval(mean, *errors.of(measured).of(changes))}


def distance_intervals(
    metrics: Sequence[PairedMetric],
    errors: RowErrors,
    whole: Mapping[str, tuple[Tensor, Ordered]],
    bootstrap: Bootstrap | None = None,
) -> dict[str, Interval]:
    """Of the means, medians and 99th percentiles of the distances over the choices.

    Args:
        metrics: the row's.
        errors: of the row.
        whole: the distances of all samples that have them, by key, and the same in order.
        bootstrap: draws those of choice_kl; None for the usual ones.
    """
    if not whole:
        return {}
    with_choices = [m for m in metrics if m.divergence is not None]
    of_row = errors.of(with_choices)
    divergences = [m.divergence for m in with_choices if m.divergence is not None]
    values = {
        key: [getattr(divergence, name) for divergence in divergences]
        for key, name in DISTANCES.items()
    }
    intervals: dict[str, Interval] = {}
    if bootstrap is not None:
        drawn = bootstrap.intervals(of_row.strata(values["choice_kl"]), [0.5, 0.99])
        intervals["choice_kl"] = above_0(drawn.mean)
        intervals["choice_kl_median"], intervals["choice_kl_p99"] = drawn.quantiles
        del values["choice_kl"]
    found, freedom = of_row.of_each(list(values.values()))
    units = torch.stack([torch.cat(of_row.sums(own)) for own in values.values()])
    more = one_more_of_each(units, samples=of_row.n)
    for key, error, rise in zip(values, found, more, strict=True):
        column, ordered = whole[key]
        intervals[key] = distance_interval(float(column.mean()), error, freedom, more=rise)
        for name, share in (("median", 0.5), ("p99", 0.99)):
            intervals[f"{key}_{name}"] = interval_of_quantile(of_row, values[key], share, ordered)
    return intervals


def interval_of_quantile(
    errors: Errors, values: Sequence[Tensor], share: float, ordered: Ordered | None = None
) -> Interval:
    """Order statistics where samples are independent, else Woodruff's interval (1952, JASA 47).

    Woodruff inverts the distribution function at the ends of the interval of the share that lies
    below the quantile: that share, plus and minus t standard errors, which are taken to be no
    smaller than an independent sample's. nan at an end that lies beyond the samples.

    Args:
        errors: of the values.
        values: each task's.
        share: below the quantile, 0..1.
        ordered: all values in order, where that is known.
    """
    ordered = ordered or Ordered(torch.cat(list(values)))
    if errors.independent:
        return ordered.interval(share)
    middle = ordered.quantiles([share])[0]
    below = [(of_task <= middle).double() for of_task in values]
    error, freedom = errors.of(below)
    least = sqrt(share * (1 - share) / ordered.n)
    low, high = mean_interval(share, nan if error != error else max(error, least), freedom)
    return Interval(
        ordered.quantiles([low])[0] if low >= 0 else nan,
        ordered.quantiles([high])[0] if high <= 1 else nan,
    )
