"""One run's pairs -> its RunComparison: rows of tasks, groups and the pool, and its warnings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lm_eval_flips.comparison.compatibility import setting_differences
from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.paired_runs import RunPairs
from lm_eval_flips.comparison.pooling import (
    KnownRows,
    MakesRows,
    Rows,
    adjusted,
    decisions,
    group_rows,
    pooled_row,
    primaries,
)
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.comparison.warning_rules import (
    RunFacts,
    group_warning,
    row_warnings,
    run_warnings,
)
from lm_eval_flips.comparison.warnings import Warning  # noqa: A004
from lm_eval_flips.compression.run_scheme import run_scheme
from lm_eval_flips.errors import FlipsError, NotJudgedError, named
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.logged_metrics import Key, paired_metrics
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.not_judged import WAY_OUT
from lm_eval_flips.pairs.readings import CORRECT
from lm_eval_flips.pairs.unused import UNUSED


def compare_run(
    base: Run,
    paired: RunPairs,
    tasks: Sequence[str],
    *,
    asked: Options,
    rows: Rows,
    graded: Collection[Key] = frozenset(),
) -> RunComparison:
    """Measure everything of one run.

    Args:
        base: the baseline's run.
        paired: the run's pairs with it.
        tasks: the baseline's tasks that are compared.
        asked: what was asked for.
        rows: measures rows.
        graded: metrics that grade in any of the runs that are compared.

    Raises:
        FlipsError: the run shares no task with the baseline, or none has what was asked for.
    """
    run, once = paired.run, KnownRows(rows)
    logged = _logged(paired, asked, graded)
    metrics = _chosen(paired, tasks, logged, wanted=asked.metric)
    measured = tuple(once.row([metric], name=metric.pairs.task) for metric in metrics)
    chosen = [metrics.index(metric) for metric in primaries(metrics)]
    pooled = pooled_row(metrics, measured, once)
    of_run = run_warnings(
        RunFacts(
            base=base,
            run=run,
            asked=asked,
            tasks=tasks,
            pairs=paired.pairs,
            metrics=logged,
            differences=setting_differences(base, run),
            tokens_left_out=paired.tokens_left_out,
            answers_left_out=paired.answers_left_out,
        )
    )
    path, here = run.address, [metric.pairs.task for metric in metrics]
    by_task = [
        replace(row, warnings=row_warnings(row, path, of_run, [row.name]))
        for row in adjusted(measured, chosen)
    ]
    groups = _groups(base, run, metrics, once, of_run)
    of_rows = [told for row in (*by_task, *groups) for told in row.warnings if told not in of_run]
    return RunComparison(
        path=path,
        model=run.model,
        run=run,
        tasks=tuple(by_task),
        groups=tuple(groups),
        pooled=replace(pooled, warnings=row_warnings(pooled, path, of_run, [*here, *tasks])),
        dropped=tuple(pairs.dropped for pairs in paired.pairs if pairs.dropped.count),
        tokens_left_out=paired.tokens_left_out,
        decisions=decisions(pooled, [measured[place] for place in chosen]),
        not_compared=tuple(
            sorted((set(tasks) - set(run.tasks)) | (set(run.tasks) - set(base.tasks)))
        ),
        warnings=(*of_run, *of_rows),
        metrics=tuple(metrics),
        findings=paired.findings,
        scheme=run_scheme(run),
    )


def _logged(paired: RunPairs, asked: Options, graded: Collection[Key]) -> list[PairedMetric]:
    return [
        metric
        for pairs in paired.pairs
        for metric in paired_metrics(pairs, graded=graded, right_from=asked.right_from)
    ]


def _groups(
    base: Run,
    run: Run,
    metrics: Sequence[PairedMetric],
    rows: MakesRows[Row],
    of_run: Sequence[Warning],
) -> list[Row]:
    """The groups' rows, with what concerns their tasks and how the harness scores them."""
    path = run.address
    return [
        replace(
            row,
            warnings=(
                *row_warnings(row, path, of_run, base.groups[row.name]),
                *group_warning(row, base, run),
            ),
        )
        for row in group_rows(base, metrics, rows)
    ]


def _chosen(
    paired: RunPairs, tasks: Sequence[str], logged: Sequence[PairedMetric], *, wanted: str | None
) -> list[PairedMetric]:
    """The metrics that were asked for."""
    run = paired.run
    if not any(name in run.tasks for name in tasks):
        raise FlipsError(
            f"'{run.path}' shares no task with the baseline; it holds "
            f"{named(list(run.tasks), shown=10)}, the baseline {named(list(tasks), shown=10)}"
        )
    if not paired.pairs:
        raise FlipsError("no task logged the filter asked for; drop --filter to see them all")
    names = {wanted, f"{wanted}{CORRECT}"}
    metrics = [metric for metric in logged if wanted is None or metric.metric in names]
    if metrics:
        return metrics
    ungraded = {finding.task for finding in paired.findings if finding.way_out == WAY_OUT}
    if wanted is None and all(pairs.task in ungraded for pairs in paired.pairs):
        raise NotJudgedError(
            f"the answers of {named(sorted(map(str, ungraded)))} have no score but a judge's, and "
            "none was asked: lm-eval-flips judge grades both runs"
        )
    unused = [finding.sentence for finding in paired.findings if finding.code == UNUSED]
    why = f" ({'; '.join(dict.fromkeys(unused))})" if unused else ""
    have = named(sorted({metric.metric for metric in logged}), shown=20) or "none"
    asked = "a metric that can be compared" if wanted is None else f"the metric '{wanted}'"
    raise FlipsError(f"no task logged {asked}; there are {have}{why}")
