"""The 95 % interval of every number of a row, from errors that know what is independent."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.comparison.result import Distances
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.divergence import quantile
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.significance import (
    Interval,
    mean_interval,
    paired_share_interval,
    quantile_interval,
    share_interval,
    wilson,
)
from lm_eval_flips.measures.tokens import first_values, request_means
from lm_eval_flips.pairs.indicators import indicators, share_key
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors


def intervals(
    errors: Errors,
    flips: Flips | None,
    distances: Distances | None,
    perplexity: PerplexityChange | None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Interval]:
    """The 95 % interval of every number of a row, by the number's name.

    ``bootstrap`` gives those of the distances' means and quantiles; None the usual ones.
    """
    if perplexity is not None:
        return _of_perplexity(perplexity, errors.metrics[0].metric)
    found = {"score_change": score_interval(errors, flips)}
    if flips is not None:
        found |= _of_flips(errors, flips) | _of_direction(errors)
    if distances is not None:
        found |= _of_distances(errors.metrics, distances, bootstrap)
    return found


def score_interval(errors: Errors, flips: Flips | None, *, level: float = 0.95) -> Interval:
    """Interval of the change of a score that is a mean over samples."""
    change = [m.compressed_value - m.baseline_value for m in errors.metrics]
    return difference_interval(errors, change, binary=flips is not None, level=level)


def difference_interval(
    errors: Errors, differences: Sequence[Tensor], *, binary: bool, level: float = 0.95
) -> Interval:
    """Interval of the mean of paired differences; of shares where they are -1, 0 and 1."""
    whole = torch.cat(list(differences))
    error, freedom = errors.of(differences)
    if not binary:
        return mean_interval(float(whole.mean()), error, freedom, level=level)
    if errors.independent or error == 0:
        # nothing moved, or the same in every cluster, is no certainty either
        share = errors.documents / errors.n
        lost, won = (round(share * int(moved.sum())) for moved in (whole < 0, whole > 0))
        return paired_share_interval(lost=lost, won=won, n=errors.documents, level=level)
    low, high = mean_interval(float(whole.mean()), error, freedom, level=level)
    return Interval(_cut(low, -1.0, 1.0), _cut(high, -1.0, 1.0))


def _cut(end: float, lowest: float, highest: float) -> float:
    return end if isnan(end) else min(max(end, lowest), highest)


def _above_0(interval: Interval) -> Interval:
    """A distance is never below 0."""
    return Interval(_cut(interval.low, 0.0, inf), interval.high)


def _of_perplexity(change: PerplexityChange, metric: str) -> dict[str, Interval]:
    ratio = change.ratio_interval()
    if metric == "bits_per_byte":
        return {"score_change": change.bits_interval(), "perplexity_ratio": ratio}
    # the baseline's score is given: the change's interval is that of the ratio, times the score
    before = change.baseline_perplexity
    scaled = Interval(before * (ratio.low - 1), before * (ratio.high - 1))
    return {"score_change": scaled, "perplexity_ratio": ratio}


def _of_flips(errors: Errors, flips: Flips) -> dict[str, Interval]:
    columns = [indicators(m) for m in errors.metrics]
    names = [name for name in columns[0] if all(name in own for own in columns)]
    found = {}
    for name in names:
        values = [own[name].double() for own in columns]
        count = int(sum(float(own.sum()) for own in values))
        if errors.independent:
            found[share_key(name)] = flips.interval(count)
            continue
        error, freedom = errors.of(values)
        n = errors.documents if error == 0 else flips.n
        found[share_key(name)] = share_interval(flips.share(count), n, error, freedom)
    return found


def _of_direction(errors: Errors) -> dict[str, Interval]:
    columns = [indicators(m) for m in errors.metrics]
    lost = [own["correct_to_incorrect"] for own in columns]
    flipped = [own["flips"] for own in columns]
    correct = [m.baseline_correct for m in errors.metrics if m.baseline_correct is not None]
    found = {
        "loss_share": _of_part(errors, lost, flipped),
        "negative_flip_rate": _of_part(errors, lost, correct),
    }
    measured = [m for m in errors.metrics if m.margin_change is not None]
    if measured:
        changes = [m.margin_change for m in measured if m.margin_change is not None]
        mean = float(torch.cat(changes).mean())
        found["margin_change"] = mean_interval(mean, *Errors(measured).of(changes))
    return found


def _of_part(errors: Errors, part: Sequence[Tensor], whole: Sequence[Tensor]) -> Interval:
    """A share of those samples that are in the whole: a ratio of two counts (delta method)."""
    count, total = (sum(int(own.sum()) for own in values) for values in (part, whole))
    if errors.independent or not total:
        return wilson(count, total)
    share = count / total
    residuals = [p.double() - share * w.double() for p, w in zip(part, whole, strict=True)]
    error, freedom = errors.of(residuals)
    seen = total * errors.documents // errors.n if error == 0 else total
    return share_interval(share, seen, error * errors.n / total, freedom)


def _of_distances(
    metrics: Sequence[PairedMetric], distances: Distances, bootstrap: Bootstrap | None
) -> dict[str, Interval]:
    with_choices = [m for m in metrics if m.divergence is not None]
    errors = Errors(with_choices)
    kls = [m.divergence.kl for m in with_choices if m.divergence is not None]
    if bootstrap is not None:
        found = bootstrap.intervals(errors.strata(kls), [0.5, 0.99])
        names = ("choice_kl", "choice_kl_median", "choice_kl_p99")
        return dict(zip(names, (_above_0(found.mean), *found.quantiles), strict=True))
    return {
        "choice_kl": _above_0(mean_interval(distances.choice_kl.mean, *errors.of(kls))),
        "choice_kl_median": _of_quantile(errors, kls, 0.5),
        "choice_kl_p99": _of_quantile(errors, kls, 0.99),
    }


def token_intervals(
    metrics: Sequence[PairedMetric], bootstrap: Bootstrap | None = None
) -> dict[str, Interval]:
    """Intervals of the distances over the vocabulary, whose requests go with their samples."""
    measured = [m for m in metrics if m.tokens is not None]
    tokens = [m.tokens for m in measured if m.tokens is not None]
    if not tokens:
        return {}
    errors, owners = Errors(measured), [own.samples for own in tokens]
    firsts = [first_values(own.values["kl"], own.counts).double() for own in tokens]

    def interval(values: Sequence[Tensor]) -> Interval:
        if bootstrap is not None:
            return _above_0(bootstrap.intervals(errors.strata(values, owners)).mean)
        return _of_requests(errors, owners, values)

    of_firsts = interval(firsts)
    if any(own.first_only for own in tokens):
        return {"token_kl": of_firsts, "token_kl_first_position": of_firsts}
    means = [request_means(own.values["kl"], own.counts) for own in tokens]
    return {"token_kl": interval(means), "token_kl_first_position": of_firsts}


def _of_requests(errors: Errors, owners: Sequence[Tensor], values: Sequence[Tensor]) -> Interval:
    """The mean over requests as a ratio of the samples' sums and counts (delta method)."""
    whole = torch.cat(list(values))
    mean = float(whole.mean())
    residuals = []
    for metric, samples, own in zip(errors.metrics, owners, values, strict=True):
        sums = torch.zeros(len(metric.rows), dtype=torch.float64)
        sums.index_add_(0, samples, own - mean)
        residuals.append(sums.to(metric.clusters.device))
    error, freedom = errors.of(residuals)
    return _above_0(mean_interval(mean, error * errors.n / len(whole), freedom))


def _of_quantile(errors: Errors, values: Sequence[Tensor], share: float) -> Interval:
    """Order statistics where samples are independent, else Woodruff's interval (1952, JASA 47).

    Woodruff inverts the distribution function at the ends of the interval of the share that lies
    below the quantile: that share, plus and minus t standard errors, which are taken to be no
    smaller than an independent sample's. nan at an end that lies beyond the samples.
    """
    whole = torch.cat(list(values))
    if errors.independent:
        return quantile_interval(whole, share)
    middle = quantile(whole, share)
    below = [(own <= middle).double() for own in values]
    error, freedom = errors.of(below)
    least = sqrt(share * (1 - share) / len(whole))
    low, high = mean_interval(share, nan if isnan(error) else max(error, least), freedom)
    return Interval(
        quantile(whole, low) if low >= 0 else nan,
        quantile(whole, high) if high <= 1 else nan,
    )
