"""Pairs -> Comparison: calls the measures in order. The function most people use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from typing_extensions import Unpack

from lm_eval_flips.comparison.across_runs import by_task, choice_kl, regimes, token_kl
from lm_eval_flips.comparison.compatibility import (
    refuse_device,
    refuse_identical,
    refuse_other_model,
    setting_differences,
)
from lm_eval_flips.comparison.options import CompareOptions, Options
from lm_eval_flips.comparison.pooling import (
    Rows,
    adjusted,
    decisions,
    group_rows,
    metric_key,
    pooled_row,
    primaries,
)
from lm_eval_flips.comparison.ranking import overlap_of, rank_runs, task_scores
from lm_eval_flips.comparison.result import (
    Comparison,
    RunComparison,
    RunSummary,
)
from lm_eval_flips.errors import FlipsError, OtherBaselineError, named
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run, TaskLog, load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.clusters import Clusters
from lm_eval_flips.pairs.findings import refuse_impossible
from lm_eval_flips.pairs.logged_metrics import paired_metrics
from lm_eval_flips.pairs.measured import token_values
from lm_eval_flips.pairs.pairing import Dropped, Pairs, pair

Read = Callable[[TaskLog], dict[str, Samples]]


def compare(
    baseline: str | Path | Run,
    *compressed: str | Path | Run,
    plan: str | Path | None = None,
    read: Read = read_samples,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Compare compressed runs with their baseline, sample by sample.

    Args:
        baseline: the baseline's run: an lm_eval output folder, a file in it, or a ``Run``.
        compressed: one or more compressed runs.
        plan: the plan by which the compressed runs' samples were drawn: their weighted estimates
            of all documents are in ``RunComparison.planned``. None for runs of all documents.
        read: reads a task's samples; a ``SampleReader`` does it in processes of its own.
        options: what to compare, and how; see ``Options``.

    Raises:
        FlipsError: a run cannot be read, or the runs cannot be compared; see ``load_run`` and
            ``pair``. The device cannot be used, the margin is none, the noise floor is no second
            run of the baseline, documents lack the field that clusters them, or the plan does not
            belong to the runs.

    Example:
        >>> comparison = compare("runs/baseline", "runs/int4")  # doctest: +SKIP
        >>> comparison.compressed[0].pooled.flips.flips  # doctest: +SKIP
        0.084
    """
    if not compressed:
        raise FlipsError("no compressed run given; name at least one beside the baseline")
    asked = Options(**options)
    refuse_device(asked.device)
    base = _loaded(baseline)
    floor = None if asked.noise_floor is None else _loaded(asked.noise_floor)
    if floor is not None:
        refuse_other_model(base, floor)
    runs = [_loaded(run) for run in compressed]
    every = runs if floor is None else [floor, *runs]
    kept = base.select(asked.tasks)
    drawn = None
    if plan is not None:
        from lm_eval_flips.planning.comparison import PlanOfRuns, refuse_with_plan

        refuse_with_plan(asked)
        drawn = PlanOfRuns(plan, base, margin=asked.equivalence_margin)
        kept = drawn.samples.tasks(kept, runs)
    clusters = None if asked.cluster is None else Clusters(base, asked.cluster)

    def paired(ours: Samples, theirs: Samples) -> Pairs:
        if drawn is not None:
            ours = drawn.samples.of(ours, theirs)
        found = pair(
            ours,
            theirs,
            on_mismatch=asked.on_mismatch,
            on_nan=asked.on_nan,
            pair_by=asked.pair_by,
            device=asked.device,
        )
        return found if clusters is None else clusters.of(found)

    found = list(_pairs(base, every, kept, read, paired, asked.filter))
    if clusters is not None:
        clusters.refuse_one()
    rows = Rows(margin=asked.equivalence_margin, bootstrap=asked.bootstrap, floor={})
    second = None
    if floor is not None:
        second = _compare_run(base, floor, *found.pop(0), kept, metric=asked.metric, rows=rows)
        rows = replace(rows, floor={metric_key(own): own for own in second.metrics})
    results = []
    for run, (pairs, left_out) in zip(runs, found, strict=True):
        refuse_impossible(
            (finding for found in pairs for finding in found.findings),
            path=str(run.path),
            allowed=asked.allow_implausible,
        )
        refuse_identical(base, run, pairs, allowed=asked.allow_identical)
        results.append(
            _compare_run(base, run, pairs, left_out, kept, metric=asked.metric, rows=rows)
        )
    scores = [task_scores(primaries(run.metrics)) for run in results]
    comparison = Comparison(
        baseline=RunSummary(path=str(base.path), model=base.model),
        noise_floor=second,
        settings_that_differ=tuple(d for run in every for d in setting_differences(base, run)),
        compressed=tuple(results),
        across_runs=by_task(results, choice_kl),
        across_runs_token_kl=by_task(results, token_kl),
        regimes=regimes(results, near_kl=asked.near_kl),
        ranking=rank_runs(scores),
        overlap=overlap_of(scores),
    )
    return comparison if drawn is None else drawn.of(comparison)


def _loaded(run: str | Path | Run) -> Run:
    return run if isinstance(run, Run) else load_run(run)


def _pairs(
    base: Run,
    runs: Sequence[Run],
    kept: Sequence[str],
    read: Read,
    paired: Callable[[Samples, Samples], Pairs],
    wanted: str | None,
) -> Iterator[tuple[list[Pairs], str | None]]:
    """Each run's pairs with the baseline, task by task; and why distances were left out, if any."""
    found: list[list[Pairs]] = [[] for _ in runs]
    for name in kept:
        ours: dict[str, Samples] | None = None
        for run, pairs in zip(runs, found, strict=True):
            if name not in run.tasks:
                continue
            ours = ours or read(base.tasks[name])
            theirs = read(run.tasks[name])
            for label in _filters(ours, theirs, name, wanted=wanted):
                pairs.append(paired(ours[label], theirs[label]))
    for run, pairs in zip(runs, found, strict=True):
        yield _with_tokens(run, pairs)


def _filters(
    ours: dict[str, Samples], theirs: dict[str, Samples], task: str, *, wanted: str | None
) -> list[str]:
    if set(ours) != set(theirs) and not (wanted in ours and wanted in theirs):
        shared = [label for label in ours if label in theirs]
        choose = f", or compare those of one that both have: --filter {shared[0]}" if shared else ""
        raise FlipsError(
            f"task '{task}': the baseline logged the filters {named(list(ours))}, the compressed "
            f"run {named(list(theirs))}; rerun both with the same version of the task{choose}"
        )
    # A task that lacks the wanted filter is left out; that none has it is found by the caller.
    return [label for label in ours if wanted in (None, label)]


def _compare_run(
    base: Run,
    run: Run,
    pairs: list[Pairs],
    left_out: str | None,
    kept: Sequence[str],
    *,
    metric: str | None,
    rows: Rows,
) -> RunComparison:
    shared = [name for name in kept if name in run.tasks]
    if not shared:
        raise FlipsError(
            f"'{run.path}' shares no task with the baseline; it holds "
            f"{named(list(run.tasks), shown=10)}, the baseline {named(list(kept), shown=10)}"
        )
    if not pairs:
        raise FlipsError("no task logged the filter asked for; drop --filter to see them all")
    every = [paired for found in pairs for paired in paired_metrics(found)]
    metrics = [paired for paired in every if metric in (None, paired.metric)]
    if not metrics:
        have = sorted({paired.metric for paired in every})
        raise FlipsError(f"no task logged the metric '{metric}'; there are {named(have, shown=20)}")
    measured = tuple(rows.row([paired], name=paired.pairs.task) for paired in metrics)
    chosen = [metrics.index(paired) for paired in primaries(metrics)]
    pooled = pooled_row(metrics, measured, rows)
    return RunComparison(
        path=str(run.path),
        model=run.model,
        tasks=adjusted(measured, chosen),
        groups=tuple(group_rows(base, metrics, rows)),
        pooled=pooled,
        dropped=tuple(_dropped(pairs)),
        tokens_left_out=left_out,
        decisions=decisions(pooled, [measured[i] for i in chosen]),
        not_compared=tuple(
            sorted((set(kept) - set(run.tasks)) | (set(run.tasks) - set(base.tasks)))
        ),
        metrics=tuple(metrics),
        findings=tuple(finding for found in pairs for finding in found.findings),
    )


def _dropped(pairs: Iterable[Pairs]) -> list[Dropped]:
    return [found.dropped for found in pairs if found.dropped.count]


def _with_tokens(run: Run, pairs: list[Pairs]) -> tuple[list[Pairs], str | None]:
    """The pairs with the distances over the vocabulary that the run holds, or why without."""
    if run.distances is None:
        return pairs, None
    from lm_eval_flips.scoring.token_distances import load_distances

    stored = load_distances(run.distances)
    if stored is None:
        return pairs, None
    try:
        return [replace(found, tokens=token_values(stored, found)) for found in pairs], None
    except OtherBaselineError as error:
        return pairs, str(error)
