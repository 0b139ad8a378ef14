"""Runs -> Pairs: reads every task once for all runs, pairs it, adds clusters and distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.run_findings import run_findings
from lm_eval_flips.errors import FlipsError, OtherBaselineError, named
from lm_eval_flips.logs.judgements import load_judgements
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.logs.task_log import TaskLog
from lm_eval_flips.pairs.answer_pairing import answer_values
from lm_eval_flips.pairs.clusters import Clusters
from lm_eval_flips.pairs.findings import Finding
from lm_eval_flips.pairs.identical import IDENTICAL
from lm_eval_flips.pairs.judged import judged_values
from lm_eval_flips.pairs.measured import token_values
from lm_eval_flips.pairs.not_judged import not_judged
from lm_eval_flips.pairs.pairing import Pairs, pair
from lm_eval_flips.pairs.sample_values import AGGREGATED
from lm_eval_flips.scoring.answer_distances import load_answer_distances
from lm_eval_flips.scoring.token_distances import load_distances

Read = Callable[[TaskLog], dict[str, Samples]]


@runtime_checkable
class Selection(Protocol):
    """Which tasks and samples of the baseline are compared, where not all of them are."""

    def tasks(self, kept: Sequence[str], runs: Sequence[Run]) -> list[str]:
        """Those of some tasks that are meant."""

    def of(self, ours: Samples, theirs: Samples) -> Samples:
        """The baseline's samples that the compressed run's are held against."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunPairs:
    """A run's pairs with the baseline, task by task.

    ``tokens_left_out`` says why the distances over the vocabulary that the run holds are not among
    them, ``answers_left_out`` why those along answers are not; None if they are, or there are none.
    ``of_files`` are findings about either run's files.
    """

    run: Run
    pairs: Sequence[Pairs]
    tokens_left_out: str | None
    answers_left_out: str | None = None
    of_files: tuple[Finding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is doubtful or impossible in either run, or between the two."""
        of_pairs = (finding for of_task in self.pairs for finding in of_task.findings)
        return (*self.of_files, *of_pairs)

    def may_be_identical(self) -> RunPairs:
        """Without what is said of samples that agree with the baseline's to the last digit."""
        pairs = [
            replace(own, findings=tuple(f for f in own.findings if f.code != IDENTICAL))
            for own in self.pairs
        ]
        return replace(self, pairs=pairs)


def pair_runs(
    base: Run,
    runs: Sequence[Run],
    tasks: Sequence[str],
    *,
    asked: Options,
    read: Read,
    select: Selection | None = None,
) -> list[RunPairs]:
    """Pair the samples of every run with the baseline's, in the order of the runs.

    Raises:
        FlipsError: samples or filters differ, or documents lack the field that clusters them.
    """
    clusters = None if asked.cluster is None else Clusters(base, asked.cluster)
    pairs: list[list[Pairs]] = [[] for _ in runs]
    for name in tasks:
        ours: dict[str, Samples] | None = None
        for run, of_run in zip(runs, pairs, strict=True):
            if name not in run.tasks:
                continue
            ours = ours or read(base.tasks[name])
            theirs = read(run.tasks[name])
            for label in _filters(ours, theirs, name, wanted=asked.filter):
                right = _without_marks(theirs[label])
                left = _without_marks(ours[label])
                left = left if select is None else select.of(left, right)
                of_task = _pair(left, right, asked)
                of_run.append(of_task if clusters is None else clusters.of(of_task))
    if clusters is not None:
        clusters.refuse_one()
    return [
        replace(
            _measured(base, run, of_run),
            of_files=run_findings(base, run, tasks, glob=asked.tasks),
        )
        for run, of_run in zip(runs, pairs, strict=True)
    ]


def _measured(base: Run, run: Run, pairs: list[Pairs]) -> RunPairs:
    """The pairs with what was measured of single answers: nothing where they are several draws."""
    if any(own.baseline.seeds or own.compressed.seeds for own in pairs):
        why = "several runs stand on a side, of each of which it is another"
        return RunPairs(
            run=run,
            pairs=pairs,
            tokens_left_out=None if run.distances is None else why,
            answers_left_out=None if run.answer_distances is None else why,
        )
    return _with_answers(_with_tokens(run, _with_judgements(base, run, pairs)))


def _with_judgements(base: Run, run: Run, pairs: list[Pairs]) -> list[Pairs]:
    """The pairs with what a judge said of their answers, where one was asked."""
    theirs = [] if run.judgements is None else load_judgements(run.judgements)
    ours = [] if base.judgements is None else load_judgements(base.judgements)
    judged = [(of_task, *judged_values(of_task, ours, theirs)) for of_task in pairs]
    return [
        replace(
            of_task,
            judged=values,
            findings=(*of_task.findings, *found, *not_judged(of_task, values)),
        )
        for of_task, values, found in judged
    ]


def _without_marks(samples: Samples) -> Samples:
    """The samples without what the harness's table was given of an earlier comparison."""
    values = {name: own for name, own in samples.values.items() if name not in AGGREGATED}
    return samples if len(values) == len(samples.values) else replace(samples, values=values)


def _pair(ours: Samples, theirs: Samples, asked: Options) -> Pairs:
    return pair(
        ours,
        theirs,
        on_mismatch=asked.on_mismatch,
        on_nan=asked.on_nan,
        pair_by=asked.pair_by,
        device=asked.device,
    )


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


def _with_tokens(run: Run, pairs: list[Pairs]) -> RunPairs:
    """The pairs with the distances over the vocabulary that the run holds, or why without."""
    stored = None if run.distances is None else load_distances(run.distances)
    if stored is None:
        return RunPairs(run=run, pairs=pairs, tokens_left_out=None)
    try:
        measured = [replace(of_task, tokens=token_values(stored, of_task)) for of_task in pairs]
    except OtherBaselineError as error:
        return RunPairs(run=run, pairs=pairs, tokens_left_out=str(error))
    return RunPairs(run=run, pairs=measured, tokens_left_out=None)


def _with_answers(paired: RunPairs) -> RunPairs:
    """The same with the distances along the baseline's answers, or why without."""
    folder = paired.run.answer_distances
    stored = None if folder is None else load_answer_distances(folder)
    if stored is None:
        return paired
    try:
        pairs = [replace(own, answers=answer_values(stored, own)) for own in paired.pairs]
    except OtherBaselineError as error:
        return replace(paired, answers_left_out=str(error))
    return replace(paired, pairs=pairs)
