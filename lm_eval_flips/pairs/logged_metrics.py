"""Pairs -> every metric that both runs logged, but those that FlipsTask adds.

A task may score its choices by pairs alone: mcc and f1 log ``[gold, predicted]``, brier_score
``[gold, probabilities]``, and the harness makes one number of all of them. Which answer each model
gave, and which is right, is known there all the same: by the harness's own rule for ``acc``, the
choice of the largest log-likelihood, the first of equals, against the target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import torch

from lm_eval_flips.pairs.correctness import only_zeros_and_ones, shared_samples
from lm_eval_flips.pairs.drawn import drawn_metric, is_drawn
from lm_eval_flips.pairs.judged import PREFERRED, SCORED, JudgedValues
from lm_eval_flips.pairs.metric import PairedMetric, paired_metric
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.readings import ANSWERED
from lm_eval_flips.pairs.sample_values import AGGREGATED, MARKS
from lm_eval_flips.pairs.sides import Side

Key = tuple[str, str, str]  # task, filter, metric


def shared_metrics(pairs: Pairs) -> list[str]:
    """The metrics that both runs logged for some sample as a number, in logged order.

    What FlipsTask logs itself is a result, not a metric to compare.
    """
    both = [name for name in pairs.baseline.metrics if name in pairs.compressed.metrics]
    names = [name for name in both if name not in AGGREGATED and name not in MARKS]
    return [name for name in names if shared_samples(pairs, name).any()]


def graded_metrics(pairs: Iterable[Pairs]) -> frozenset[Key]:
    """The metrics that grade in any of these runs, so that they do in all of them.

    All grades of one run may happen to be 0 or 1; what the metric is does not change with that.
    """
    return frozenset(
        (own.task, own.filter, name)
        for own in pairs
        for name in shared_metrics(own)
        if not only_zeros_and_ones(own, name)
    )


def paired_metrics(
    pairs: Pairs,
    *,
    graded: Collection[Key] = frozenset(),
    right_from: float | None = None,
) -> list[PairedMetric]:
    """Every metric that both runs logged for these samples as a number, in logged order.

    Where no metric of a choice task is a number, there is ``acc``, which the log-likelihoods and
    the target tell; where answers have no score of their own, as conversations, there is what a
    judge said of them: ``judge_score``, or ``judge_preference``, of which the baseline's is 0.

    Args:
        pairs: the samples of one task and filter.
        graded: metrics that grade in other runs, and so in these.
        right_from: the value from which a graded answer counts as right.

    Raises:
        FlipsError: a logged correctness contradicts the log-likelihoods it was made from.
    """
    names = shared_metrics(pairs)
    if not names and pairs.judged is not None:
        return [_as_judged(pairs, pairs.judged)]
    if names or not _tells_answers(pairs):
        return [
            drawn_metric(pairs, name)
            if is_drawn(pairs, name)
            else paired_metric(
                pairs,
                name,
                graded=(pairs.task, pairs.filter, name) in graded,
                right_from=right_from,
            )
            for name in names
        ]
    answered = replace(
        pairs,
        baseline=_with_answers(pairs, pairs.baseline),
        compressed=_with_answers(pairs, pairs.compressed),
    )
    return [paired_metric(answered, ANSWERED)]


def _tells_answers(pairs: Pairs) -> bool:
    """Whether choices were scored, and it is known of each sample which of them are right."""
    return pairs.kind == "choices" and bool(pairs.gold.any(-1).all())


def _as_judged(pairs: Pairs, judged: JudgedValues) -> PairedMetric:
    name = SCORED if judged.scored else PREFERRED
    values = (
        (judged.baseline, judged.compressed)
        if judged.scored
        else (judged.preference * 0.0, judged.preference)
    )
    before, after = (
        replace(side, metrics={**side.metrics, name: own})
        for side, own in zip((pairs.baseline, pairs.compressed), values, strict=True)
    )
    return paired_metric(replace(pairs, baseline=before, compressed=after), name, graded=True)


def _with_answers(pairs: Pairs, side: Side) -> Side:
    best = side.loglikelihoods.argmax(-1, keepdim=True)
    correct = pairs.gold.gather(-1, best)[:, 0].to(torch.float64)
    return replace(side, metrics={**side.metrics, ANSWERED: correct})
