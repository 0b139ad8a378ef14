"""The 95 % interval of every number of a row, from errors that know what is independent.

One source: what a row's records hold of intervals is taken from here, and every number uses the
errors of the row's samples, so that a verdict on one never rests on other clusters than another.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.distance_mean import distance_interval, one_more
from lm_eval_flips.measures.divergence import DISTANCES, Distances, quantile
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.paired_difference import mover, mover_interval
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.shares import share_interval, wilson
from lm_eval_flips.measures.significance import Interval, mean_interval, quantile_interval
from lm_eval_flips.pairs.indicators import indicators, share_key
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.ends import above_0, agreeing
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.parts import Part, share_intervals
from lm_eval_flips.uncertainty.row_errors import RowErrors
from lm_eval_flips.uncertainty.score import score_values


def score_intervals(
    errors: Errors, flips: Flips | None, perplexity: PerplexityChange | None, p_value: float
) -> dict[str, Interval]:
    """Of the change of the score, whatever it is, and of a ratio of perplexities."""
    if perplexity is None:
        return {"score_change": score_interval(errors, flips, p_value)}
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
    errors: Errors, flips: Flips | None, p_value: float, *, level: float = 0.95
) -> Interval:
    """Interval of the change of a score that is a mean over samples.

    It holds 0 where its test, of this p, calls it no change.
    """
    change = score_values(errors.metrics).change
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
    marks = [indicators(m) for m in errors.metrics]
    names = [name for name in marks[0] if all(name in of_task for of_task in marks)]
    counts = torch.stack(
        [torch.cat([of_task[name] for of_task in marks]).sum() for name in names]
    ).tolist()
    intervals = {}
    if errors.independent:
        for name, count in zip(names, counts, strict=True):
            intervals[share_key(name)] = wilson(count, flips.n)
    else:
        of_names, freedom = errors.of_columns(
            [[of_task[name] for name in names] for of_task in marks]
        )
        for name, count, error in zip(names, counts, of_names, strict=True):
            n = errors.documents if error == 0 else flips.n
            intervals[share_key(name)] = share_interval(flips.share(count), n, error, freedom)
    lost = [of_task["correct_to_incorrect"] for of_task in marks]
    correct = [m.baseline_correct for m in errors.metrics if m.baseline_correct is not None]
    flipped = [of_task["flips"] for of_task in marks]
    parts = {
        "loss_share": Part(counted=lost, among=flipped),
        "negative_flip_rate": Part(counted=lost, among=correct),
    }
    return intervals | share_intervals(errors, parts)


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
    distances: Distances | None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Interval]:
    """Of the means, medians and 99th percentiles of the distances over the choices.

    ``bootstrap`` draws those of choice_kl; None for the usual ones.
    """
    if distances is None:
        return {}
    with_choices = [m for m in metrics if m.divergence is not None]
    of_row = errors.of(with_choices)
    divergences = [m.divergence for m in with_choices if m.divergence is not None]
    intervals: dict[str, Interval] = {}
    for key, name in DISTANCES.items():
        values = [getattr(divergence, name) for divergence in divergences]
        if bootstrap is not None and key == "choice_kl":
            drawn = bootstrap.intervals(of_row.strata(values), [0.5, 0.99])
            intervals[key] = above_0(drawn.mean)
            intervals["choice_kl_median"], intervals["choice_kl_p99"] = drawn.quantiles
            continue
        mean = getattr(distances, key).mean
        more = one_more(torch.cat(of_row.sums(values)), samples=of_row.n)
        intervals[key] = distance_interval(mean, *of_row.of(values), more=more)
        intervals[f"{key}_median"] = interval_of_quantile(of_row, values, 0.5)
        intervals[f"{key}_p99"] = interval_of_quantile(of_row, values, 0.99)
    return intervals


def interval_of_quantile(errors: Errors, values: Sequence[Tensor], share: float) -> Interval:
    """Order statistics where samples are independent, else Woodruff's interval (1952, JASA 47).

    Woodruff inverts the distribution function at the ends of the interval of the share that lies
    below the quantile: that share, plus and minus t standard errors, which are taken to be no
    smaller than an independent sample's. nan at an end that lies beyond the samples.
    """
    whole = torch.cat(list(values))
    if errors.independent:
        return quantile_interval(whole, share)
    middle = quantile(whole, share)
    below = [(of_task <= middle).double() for of_task in values]
    error, freedom = errors.of(below)
    least = sqrt(share * (1 - share) / len(whole))
    low, high = mean_interval(share, nan if error != error else max(error, least), freedom)
    return Interval(
        quantile(whole, low) if low >= 0 else nan,
        quantile(whole, high) if high <= 1 else nan,
    )
