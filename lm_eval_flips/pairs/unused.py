"""Values and metrics that are left out of a comparison: refused, or named with their reason."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.readings import Reading, not_finite

UNUSED = "not_compared"  # the code of a metric that is not compared


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Values without a mean that are left out of their metric: by reason, and what to say."""

    left_out: Mapping[str, tuple[int, ...]]
    findings: tuple[Finding, ...]


def without_values(
    baseline: Samples, compressed: Samples, where: str, on_nan: str, *, gone: set[int]
) -> tuple[Samples, Samples, LeftOut]:
    """The samples without values that are nan or infinite, each left out of its own metric only.

    A metric of which the harness takes the mean of what is a number (nanmean) may be nan.

    Args:
        baseline: the baseline's samples.
        compressed: the compressed run's samples.
        where: how errors call the task and filter.
        on_nan: "error" or "exclude".
        gone: doc_ids that are left out of all metrics.

    Raises:
        FlipsError: there are such values, and they are not to be left out.
    """
    allowed: dict[str, dict[str, set[int]]] = {}
    refused: dict[str, list[int]] = {}
    infinite: set[str] = set()
    for run, samples in (("the baseline", baseline), ("the compressed run", compressed)):
        for metric, what, docs in not_finite(samples):
            if what == "infinite":
                infinite.add(metric)
            left = [doc for doc in docs if doc not in gone]
            if not left:
                continue
            if what == "nan" and samples.task.aggregation(metric) == "nanmean":
                allowed.setdefault(metric, {}).setdefault(run, set()).update(left)
            else:
                refused[f"{metric} is {what} in {run}"] = left
    if refused and on_nan == "error":
        told = "; ".join(f"{reason} (doc {named(docs)})" for reason, docs in refused.items())
        raise FlipsError(
            f"{where}: {told}. Such a value has no mean: find out why it was logged, or leave "
            "these samples out of that metric with --on-nan exclude"
        )
    found = LeftOut(
        left_out={reason: tuple(docs) for reason, docs in refused.items()},
        findings=tuple(_as_nanmean(baseline, metric, runs) for metric, runs in allowed.items()),
    )
    return _finite(baseline, infinite), _finite(compressed, infinite), found


def _as_nanmean(samples: Samples, metric: str, runs: Mapping[str, set[int]]) -> Finding:
    docs = sorted(set().union(*runs.values()))
    told = " and ".join(f"{len(own)} in {run}" for run, own in runs.items())
    return Finding(
        code="nanmean",
        task=samples.task.name,
        filter=samples.filter,
        text=f"{metric} is nan for {told}: it is compared over the samples of which both runs have "
        f"a number, without doc {named(docs)}, as the harness's nanmean leaves them out",
        way_out="",
        impossible=False,
        keeps_from_passing=False,
    )


def _finite(samples: Samples, bad: Collection[str]) -> Samples:
    """The samples with nan for every value of these metrics that has no mean."""
    if not bad:
        return samples
    metrics = dict(samples.metrics)
    for metric in metrics.keys() & set(bad):
        metrics[metric] = np.where(np.isinf(metrics[metric]), nan, metrics[metric])
    return replace(samples, metrics=metrics)


def not_compared(baseline: Reading, compressed: Reading) -> Iterator[Finding]:
    """What is said of metrics that are not compared, or compared as right or wrong only."""
    task, filter_ = baseline.samples.task, baseline.samples.filter

    def finding(code: str, text: str, way_out: str) -> Finding:
        return Finding(
            code=code,
            task=task.name,
            filter=filter_,
            text=text,
            way_out=way_out,
            impossible=False,
            keeps_from_passing=False,
        )

    for name in dict.fromkeys((*baseline.unused, *compressed.unused)):
        why = baseline.unused.get(name) or compressed.unused[name]
        scores = _scores(name, baseline, compressed)
        yield finding(
            UNUSED,
            f"{name} is not compared sample by sample: {why}{scores and f'. It is {scores}'}"
            f"{_parts(name, baseline.samples, compressed.samples)}",
            "Read its score from the runs' own results",
        )
    for name, row in baseline.shown_as.items():
        scores = _scores(name, baseline, compressed)
        if scores and name in compressed.shown_as:
            yield finding(
                "score",
                f"{name} is {scores} as the harness aggregates it; the row {row} counts the "
                "samples that are right",
                "",
            )


def _parts(name: str, baseline: Samples, compressed: Samples) -> str:
    """Of lists of right and wrong parts, as IFEval's instructions: how many flipped, and which way.

    Over the documents of both; nothing where a part is neither, or the lists differ in length.
    """
    both = [own.values.get(name) for own in (baseline, compressed)]
    ours, theirs = both
    if ours is None or theirs is None or {ours.kind, theirs.kind} - {"list", "pair"}:
        return ""
    left, right = baseline.shared_rows(compressed)
    before, after = ours.only(left), theirs.only(right)
    if not np.array_equal(before.counts, after.counts):
        return ""
    known = ~np.isnan(before.numbers)
    was, now = before.numbers[known], after.numbers[~np.isnan(after.numbers)]
    if not np.isin(was, (0, 1)).all() or not np.isin(now, (0, 1)).all():
        return ""
    lost, won = int((was > now).sum()), int((was < now).sum())
    return f"; of {len(was)} parts {lost} became wrong and {won} right"


def _scores(name: str, baseline: Reading, compressed: Reading) -> str:
    """A metric's score in both runs: recomputed, or else as the results say."""
    scores = [
        side.scores.get(name, side.samples.task.score(name, side.samples.filter))
        for side in (baseline, compressed)
    ]
    known = [nan if score is None else score for score in scores]
    return "" if any(map(isnan, known)) else f"{known[0]:.4g} → {known[1]:.4g}"
