"""The intervals and p-values of a row, from errors that know which samples are independent.

Within a task, samples of the same document are one cluster. Over ten or more tasks, as in MMLU's
subjects, the tasks are the clusters. Over fewer a cluster-robust error is not to be trusted; the
tasks are then strata: the errors within each are added up, and the result speaks of these tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isnan, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.divergence import quantile
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.perplexity import PerplexityChange
from lm_eval_flips.measures.significance import (
    Interval,
    mcnemar,
    mean_interval,
    paired_share_interval,
    quantile_interval,
    share_interval,
    standard_error,
    t_test,
    wilson,
)
from lm_eval_flips.measures.tokens import first_values, request_means
from lm_eval_flips.paired_metric import PairedMetric
from lm_eval_flips.result import Distances

ENOUGH_CLUSTERS = 10


class Errors:
    """Standard errors of means over the samples of some paired metrics.

    ``documents`` is the number of samples that count where none was seen to move: that tells
    nothing of how alike the samples of a cluster are, so copies of a document count once.
    """

    def __init__(self, metrics: Sequence[PairedMetric]) -> None:
        self.metrics = metrics
        self.n = sum(len(m.rows) for m in metrics)
        self.documents = documents = sum(int(m.clusters.max()) + 1 for m in metrics)
        if len(metrics) >= ENOUGH_CLUSTERS:
            self.method = f"clustered by task ({len(metrics)})"
        elif len(metrics) > 1:
            self.method = f"stratified by task ({len(metrics)})"
        elif documents < self.n:
            self.method = f"clustered by document ({documents} of {self.n} samples)"
        else:
            self.method = "independent samples"

    @property
    def clustered_by_task(self) -> bool:
        """Whether the tasks are the clusters."""
        return len(self.metrics) >= ENOUGH_CLUSTERS

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


def intervals(
    errors: Errors,
    flips: Flips | None,
    distances: Distances | None,
    perplexity: PerplexityChange | None,
) -> dict[str, Interval]:
    """The 95 % interval of every number of a row, by the number's name."""
    if perplexity is not None:
        return _of_perplexity(perplexity, errors.metrics[0].metric)
    found = {"score_change": score_interval(errors, flips)}
    if flips is not None:
        found |= _of_flips(errors, flips) | _of_direction(errors)
    if distances is not None:
        found |= _of_distances(errors.metrics, distances)
    return found


def p_value(errors: Errors, flips: Flips | None, perplexity: PerplexityChange | None) -> float:
    """Two-sided p of no change: exact McNemar of the documents, or t where the tasks are clusters.

    A document that stands in several samples is one pair, lost or won by its net change.
    """
    if flips is not None and not errors.clustered_by_task:
        nets = [_by_document(m) for m in errors.metrics]
        return mcnemar(
            lost=sum(int((net < 0).sum()) for net in nets),
            won=sum(int((net > 0).sum()) for net in nets),
        )
    if perplexity is not None:
        change, error = perplexity.loss_change, perplexity.standard_error
        freedom = perplexity.freedom
    else:
        values = _changes(errors.metrics)
        change = float(torch.cat(values).mean())
        error, freedom = errors.of(values)
    return t_test(change, error, freedom)


def _changes(metrics: Sequence[PairedMetric]) -> list[Tensor]:
    """Change of correctness, or of the value of a metric that is not binary, of each sample."""
    return [
        m.compressed_value - m.baseline_value
        if m.baseline_correct is None or m.compressed_correct is None
        else m.compressed_correct.double() - m.baseline_correct.double()
        for m in metrics
    ]


def _by_document(metric: PairedMetric) -> Tensor:
    (change,) = _changes([metric])
    net = torch.zeros(int(metric.clusters.max()) + 1, dtype=change.dtype, device=change.device)
    return net.index_add_(0, metric.clusters, change)


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
            found[name] = flips.interval(count)
            continue
        error, freedom = errors.of(values)
        n = errors.documents if error == 0 else flips.n
        found[name] = share_interval(flips.share(count), n, error, freedom)
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


def indicators(metric: PairedMetric) -> dict[str, Tensor]:
    """Which samples of a binary metric count as what: one bool column for each defined name."""
    before, after, changed = metric.baseline_correct, metric.compressed_correct, metric.changed
    if before is None or after is None:
        return {}
    found = {
        "flips": before ^ after,
        "correct_to_incorrect": before & ~after,
        "incorrect_to_correct": ~before & after,
    }
    if changed is not None:
        found["answers_changed"] = changed
        if metric.baseline_answer is not None:
            found["all_flips"] = (before ^ after) | (~before & ~after & changed)
    return found


def _of_distances(metrics: Sequence[PairedMetric], distances: Distances) -> dict[str, Interval]:
    with_choices = [m for m in metrics if m.divergence is not None]
    errors = Errors(with_choices)
    kls = [m.divergence.kl for m in with_choices if m.divergence is not None]
    return {
        "choice_kl": mean_interval(distances.choice_kl.mean, *errors.of(kls)),
        "choice_kl_median": _of_quantile(errors, kls, 0.5),
        "choice_kl_p99": _of_quantile(errors, kls, 0.99),
    }


def token_intervals(metrics: Sequence[PairedMetric]) -> dict[str, Interval]:
    """Intervals of the distances over the vocabulary, whose requests go with their samples."""
    measured = [m for m in metrics if m.tokens is not None]
    tokens = [m.tokens for m in measured if m.tokens is not None]
    if not tokens:
        return {}
    errors, owners = Errors(measured), [own.samples for own in tokens]
    firsts = [first_values(own.values["kl"], own.counts).double() for own in tokens]
    found = {"token_kl_first_position": _of_requests(errors, owners, firsts)}
    if not any(own.first_only for own in tokens):
        means = [request_means(own.values["kl"], own.counts) for own in tokens]
        found["token_kl"] = _of_requests(errors, owners, means)
    return found


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
    low, high = mean_interval(mean, error * errors.n / len(whole), freedom)
    return Interval(_cut(low, 0.0, inf), high)


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
