"""Paired samples of a plan -> what all documents would show, for tasks, groups and the pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_eval_flips.comparison.numbers import MEANS
from lm_eval_flips.comparison.planned import Estimate, PlannedRow
from lm_eval_flips.comparison.pooling import one_direction
from lm_eval_flips.comparison.row import MIXED
from lm_eval_flips.pairs.known_values import known_values
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.drawn import Drawn
from lm_eval_flips.planning.estimates import (
    distance,
    equivalence,
    mean,
    negative_flip_rate,
    score_change,
    shares,
    token_kl,
)
from lm_eval_flips.planning.pairs import PlannedSamples


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRows:
    """Makes rows from planned samples, with a margin of equivalence where one is given."""

    samples: PlannedSamples
    margin: float | None = None

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> PlannedRow:
        """What the metrics of one or several tasks show of all their documents."""
        metrics = one_direction(metrics)
        drawn = Drawn.of(self.samples, metrics)
        design, better = drawn.design, all(m.higher_is_better for m in metrics)
        before = self._baseline_score(drawn)
        found = shares(drawn)
        if "correct_to_incorrect_share" in found:
            columns = [m.baseline_correct for m in metrics if m.baseline_correct is not None]
            found["negative_flip_rate"] = negative_flip_rate(
                found["correct_to_incorrect_share"],
                correct=before if better else design.mean(drawn.column(columns)),
                documents=design.documents,
            )
        return PlannedRow(
            name=name,
            filter=_common([m.pairs.filter for m in metrics]),
            metric=_common([m.metric for m in metrics]),
            n=len(design.stratum),
            documents=design.documents,
            baseline_score=before,
            higher_is_better=better,
            estimates=found | self._distances(metrics) | {"score_change": score_change(drawn)},
            equivalence=None if self.margin is None else equivalence(drawn, self.margin),
        )

    def _baseline_score(self, drawn: Drawn) -> float:
        """Over all documents where the baseline's run has them, else estimated."""
        known, total = 0.0, 0
        for metric in drawn.metrics:
            pairs = metric.pairs
            score = self.samples.score(pairs.task, pairs.filter, metric.metric)
            if score is None or metric.as_correctness:  # the score is of the metric's own values
                return drawn.design.mean(drawn.column([m.baseline_value for m in drawn.metrics]))
            documents = self.samples.plan.tasks[pairs.task].documents
            known, total = known + documents * score, total + documents
        return known / total

    def _distances(self, metrics: Sequence[PairedMetric]) -> dict[str, Estimate]:
        """Mean KL over the choices and over the vocabulary, of the tasks that have them."""
        found = {}
        with_choices = [m for m in metrics if m.divergence is not None]
        if with_choices:
            kl = [m.divergence.kl for m in with_choices if m.divergence is not None]
            found["choice_kl"] = distance(Drawn.of(self.samples, with_choices), kl)
        measured = [m for m in metrics if m.tokens is not None]
        if measured:
            first_only = any(m.tokens.first_only for m in measured if m.tokens is not None)
            found["token_kl"] = token_kl(Drawn.of(self.samples, measured), first_only=first_only)
            if first_only:
                found["token_kl_first_position"] = found["token_kl"]
        for key, column in MEANS.items():
            known = [
                (m, values)
                for m in metrics
                # drawn samples stand for all only if each has a value
                if (values := column(m)) is not None and known_values(m, values)[0] is m
            ]
            if known:
                drawn = Drawn.of(self.samples, [metric for metric, _ in known])
                found[key] = mean(drawn, [values for _, values in known])
        return found


def can_be_planned(metric: PairedMetric) -> bool:
    """Whether a metric is a mean over documents that all drawn samples have."""
    return metric.units is None and len(metric.rows) == len(metric.pairs.doc_ids)


def _common(names: Sequence[str]) -> str:
    return names[0] if len(set(names)) == 1 else MIXED
