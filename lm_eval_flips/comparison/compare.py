"""Runs -> Comparison: pairs them, measures each, holds them against each other.

The function most people use.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from lm_eval_flips.comparison.one_run import compare_run
from lm_eval_flips.comparison.options import CompareOptions, Options
from lm_eval_flips.comparison.paired_runs import Read, RunPairs, Selection, pair_runs
from lm_eval_flips.comparison.pooling import Rows, metric_key, primaries
from lm_eval_flips.comparison.ranking import overlap_of, rank_runs, task_scores
from lm_eval_flips.comparison.result import Comparison, RunComparison, RunSummary
from lm_eval_flips.comparison.seeds import SeveralGiven, runs_of
from lm_eval_flips.comparison.several_runs import SideReader, refuse_with_several, with_findings
from lm_eval_flips.comparison.text_losses import text_losses
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run, load_run
from lm_eval_flips.pairs.findings import refuse_impossible
from lm_eval_flips.pairs.logged_metrics import graded_metrics


def compare(
    baseline: SeveralGiven,
    *compressed: SeveralGiven,
    read: Read = read_samples,
    select: Selection | None = None,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Compare compressed runs with their baseline, sample by sample.

    Args:
        baseline: the baseline's run: an lm_eval output folder, a file in it, or a ``Run``; or
            several of them that differ by the seed alone, whose answers are then draws.
        compressed: one or more compressed runs, each of them one or several draws too.
        read: reads a task's samples; a ``SampleReader`` does it in processes of its own.
        select: chooses among the baseline's tasks and samples, where the compressed runs answered
            only some, as ``compare_planned`` does; None for all.
        options: what to compare, and how; see ``Options``.

    Raises:
        FlipsError: a run cannot be read, or the runs cannot be compared; see ``load_run`` and
            ``pair``. The device cannot be used, the margin is none, the noise floor is no second
            run of the baseline, or documents lack the field that clusters them.

    Example:
        >>> comparison = compare("runs/baseline", "runs/int4")  # doctest: +SKIP
        >>> comparison.compressed[0].pooled.numbers["flips"].value  # doctest: +SKIP
        0.084
    """
    if not compressed:
        raise FlipsError("no compressed run given; name at least one beside the baseline")
    asked = Options(**options)
    refuse_device(asked.device)
    sides = [runs_of(given) for given in (baseline, *compressed)]
    reading = SideReader(sides, read)
    if reading.drawn:
        refuse_with_several(asked, planned=select is not None)
    base, *runs = (side[0] for side in sides)
    floor = None if asked.noise_floor is None else loaded(asked.noise_floor)
    if floor is not None:
        refuse_other_model(base, floor)
    tasks: Sequence[str] = base.select(asked.tasks)
    if select is not None:
        tasks = select.tasks(tasks, runs)
    with_floor = runs if floor is None else [*runs, floor]
    paired = pair_runs(base, with_floor, tasks, asked=asked, read=reading, select=select)
    paired = with_findings(paired, sides, reading)
    second, results = _compared(base, paired, tasks, asked=asked, has_floor=floor is not None)
    our_others, *their_others = ([run.address for run in side[1:]] for side in sides)
    results = [
        replace(run, others=tuple(own)) for run, own in zip(results, their_others, strict=True)
    ]
    scores = [task_scores(primaries(run.metrics)) for run in results]
    others = runs if floor is None else [floor, *runs]
    return Comparison(
        baseline=RunSummary(
            path=base.address, model=base.model, run=base, others=tuple(our_others)
        ),
        noise_floor=second,
        settings_that_differ=tuple(d for run in others for d in setting_differences(base, run)),
        compressed=tuple(results),
        across_runs=by_task(results, choice_kl),
        across_runs_token_kl=by_task(results, token_kl),
        regimes=regimes(results, near_kl=asked.near_kl),
        text_losses=text_losses(results),
        ranking=rank_runs(scores),
        overlap=overlap_of(scores),
    )


def _compared(
    base: Run, paired: Sequence[RunPairs], tasks: Sequence[str], *, asked: Options, has_floor: bool
) -> tuple[RunComparison | None, list[RunComparison]]:
    """The noise floor, whose pairs stand last, and the compressed runs beside it."""
    graded = graded_metrics(pairs for of_run in paired for pairs in of_run.pairs)
    rows = Rows(margin=asked.equivalence_margin, bootstrap=asked.bootstrap, floor={})
    second = None
    if has_floor:
        *paired, of_floor = paired
        of_floor = of_floor.may_be_identical()
        refuse_impossible(
            of_floor.findings, path=of_floor.run.address, allowed=asked.allow_implausible
        )
        second = compare_run(base, of_floor, tasks, asked=asked, rows=rows, graded=graded)
        rows = replace(rows, floor={metric_key(metric): metric for metric in second.metrics})
    results = []
    if asked.allow_identical:
        paired = [of_run.may_be_identical() for of_run in paired]
    for of_run in paired:
        refuse_impossible(of_run.findings, path=of_run.run.address, allowed=asked.allow_implausible)
        refuse_identical(base, of_run.run, of_run.pairs, allowed=asked.allow_identical)
        results.append(compare_run(base, of_run, tasks, asked=asked, rows=rows, graded=graded))
    return second, results


def loaded(run: str | Path | Run) -> Run:
    """The run itself, or the one that a path names.

    Raises:
        FlipsError: as ``load_run``.
    """
    return run if isinstance(run, Run) else load_run(run)
