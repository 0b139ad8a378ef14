"""A compressed run of which some documents were drawn, and what is known of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.metric import PairedMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All of a task's documents: how many there are, and how many the baseline got right."""

    documents: int
    baseline_correct: int

    @classmethod
    def of(cls, metric: PairedMetric) -> Whole:
        """Of a metric that has all documents."""
        correct = metric.baseline_correct
        return cls(
            documents=len(metric.rows),
            baseline_correct=0 if correct is None else int(correct.sum()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A compressed run whose documents were drawn in an order.

    Args:
        model: the compressed model's name.
        path: the run's folder.
        metrics: of the documents that were drawn.
        wholes: of all documents, by task, those of the tasks' own metrics.
        groups: the baseline's groups, and their tasks.
        count: how many documents of the order were drawn, the first ones.
        findings: of the run's plausibility.
    """

    model: str
    path: str
    metrics: Sequence[PairedMetric]
    wholes: Mapping[str, Whole]
    groups: Mapping[str, Sequence[str]]
    count: int
    findings: tuple[Finding, ...] = ()
