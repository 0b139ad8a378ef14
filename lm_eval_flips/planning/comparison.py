"""A comparison of a plan's samples: `compare`, wrapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from lm_eval_flips.comparison.compare import compare, loaded
from lm_eval_flips.comparison.options import CompareOptions, Options
from lm_eval_flips.comparison.paired_runs import Read
from lm_eval_flips.comparison.planned import Planned
from lm_eval_flips.comparison.pooling import group_rows, primaries
from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.pairs import PlannedSamples, sample_weights
from lm_eval_flips.planning.plan import load_plan
from lm_eval_flips.planning.rows import PlannedRows, can_be_planned


def compare_planned(
    plan: str | Path,
    baseline: str | Path | Run,
    *compressed: str | Path | Run,
    read: Read = read_samples,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Compare runs of a plan's samples with their baseline, and estimate what all would show.

    The estimates are in ``RunComparison.planned``. What holds of the drawn samples only, among
    which uncertain answers are many, is left out: ranking, overlap and correlations over runs.

    Args:
        plan: the plan by which the compressed runs' samples were drawn, or the samples file beside
            it.
        baseline: the baseline's run, of all documents or of the drawn ones.
        compressed: one or more runs of the drawn documents.
        read: as for ``compare``.
        options: as for ``compare``, but those that would break the plan's weights.

    Raises:
        FlipsError: as ``compare``; the plan cannot be read or does not belong to the runs, an
            option does not go together with it, or no metric is a mean over documents.

    Example:
        >>> comparison = compare_planned("samples.json", "runs/baseline", "runs/int4")
        ... # doctest: +SKIP
        >>> comparison.compressed[0].planned.pooled.numbers["flips"].value  # doctest: +SKIP
        0.081
    """
    asked = Options(**options)
    refuse_with_plan(asked)
    base = loaded(baseline)
    samples = PlannedSamples(load_plan(plan), plan, base)
    comparison = compare(base, *compressed, read=read, select=samples, **options)
    rows = PlannedRows(samples=samples, margin=asked.equivalence_margin)
    return replace(
        comparison,
        compressed=tuple(
            replace(run, planned=_estimates(plan, base, run.metrics, rows), decisions=None)
            for run in comparison.compressed
        ),
        across_runs={},
        across_runs_token_kl={},
        regimes=(),
        ranking=None,
        overlap=None,
    )


def _estimates(
    path: str | Path, base: Run, metrics: Sequence[PairedMetric], rows: PlannedRows
) -> Planned:
    means = [metric for metric in metrics if can_be_planned(metric)]
    if not means:
        raise FlipsError(
            f"the plan '{path}' gives weights to means over documents, and none of the metrics is "
            "one; leave out --metric"
        )
    plan = rows.samples.plan
    return Planned(
        path=str(path),
        seed=plan.seed,
        tasks=tuple(rows.row([metric], name=metric.pairs.task) for metric in means),
        groups=tuple(group_rows(base, means, rows)),
        pooled=rows.row(primaries(means), name="pooled"),
        weights=sample_weights(plan),
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
