"""What `compare --plan` adds to a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.pooling import group_rows, primaries
from lm_eval_flips.comparison.result import Comparison, Planned
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.pairs import PlannedSamples, sample_weights
from lm_eval_flips.planning.plan import load_plan
from lm_eval_flips.planning.rows import PlannedRows, can_be_planned


class PlanOfRuns:
    """A plan that was given to compare runs by: holds them to it, and estimates by its weights.

    Args:
        path: the plan's file, or the samples file beside it.
        base: the baseline's run.
        margin: how far scores may differ and be equivalent; None if that is not asked.

    Raises:
        FlipsError: see ``load_plan`` and ``PlannedSamples``.
    """

    def __init__(self, path: str | Path, base: Run, *, margin: float | None) -> None:
        self._path, self._base = path, base
        self.samples = PlannedSamples(load_plan(path), path, base)
        self._rows = PlannedRows(samples=self.samples, margin=margin)

    def of(self, comparison: Comparison) -> Comparison:
        """The comparison with estimates of all documents, without what holds of drawn ones only.

        Raises:
            FlipsError: no metric of a run is a mean over documents.
        """
        return replace(
            comparison,
            compressed=tuple(
                replace(run, planned=self._estimates(run.metrics), decisions=None)
                for run in comparison.compressed
            ),
            across_runs={},
            across_runs_token_kl={},
            regimes=(),
            ranking=None,
            overlap=None,
        )

    def _estimates(self, metrics: Sequence[PairedMetric]) -> Planned:
        means = [metric for metric in metrics if can_be_planned(metric)]
        if not means:
            raise FlipsError(
                f"the plan '{self._path}' gives weights to means over documents, and none of the "
                "metrics is one; leave out --metric"
            )
        rows, chosen = self._rows, primaries(means)
        return Planned(
            path=str(self._path),
            seed=self.samples.plan.seed,
            tasks=tuple(rows.row([metric], name=metric.pairs.task) for metric in means),
            groups=tuple(group_rows(self._base, means, rows)),
            pooled=rows.row(chosen, name="pooled"),
            weights=sample_weights(self.samples.plan),
        )


def refuse_with_plan(asked: Options) -> None:
    """Refuse options of ``compare`` that a plan's weights do not go together with.

    Raises:
        FlipsError: naming the first that is given.
    """
    whole = "its weights hold for all drawn samples together"
    for option, given, why in (
        ("--on-mismatch intersect", asked.on_mismatch == "intersect", whole),
        ("--on-nan exclude", asked.on_nan == "exclude", whole),
        ("--noise-floor", asked.noise_floor is not None, "that run would need a plan of its own"),
        ("--cluster", asked.cluster is not None, "intervals are of these documents, alike or not"),
        ("--bootstrap", asked.bootstrap is not None, "intervals come from the plan's strata"),
    ):
        if given:
            raise FlipsError(f"{option} does not go together with --plan: {why}")
