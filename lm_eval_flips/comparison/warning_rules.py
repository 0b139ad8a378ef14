"""When a warning is due: the rules of a run and of a row, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isclose, nan
from typing import TYPE_CHECKING

import torch

from lm_eval_flips.comparison.options import Options
from lm_eval_flips.comparison.pooling import primaries
from lm_eval_flips.comparison.warnings import (
    Place,
    Warning,  # noqa: A004
    answers_left_out,
    answers_not_measured,
    choices_differ,
    doubtful,
    filter_missing,
    first_positions_only,
    group_averaged,
    metric_in_one_run,
    metric_missing,
    near_ties,
    samples_left_out,
    setting_differs,
    task_in_one_run,
    tokens_not_measured,
)
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.sample_values import AGGREGATED

SAME = 1e-6  # of two scores that one rule gave

if TYPE_CHECKING:
    from lm_eval_flips.comparison.result import Row, SettingDifference


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RunFacts:
    """What a rule may look at: both runs, what was asked, and the pairs.

    ``tasks`` are the baseline's tasks that were asked for; ``metrics`` all that both runs logged,
    ``differences`` the settings that differ. ``tokens_left_out`` says why distances over the
    vocabulary are not shown, ``answers_left_out`` why those along answers are not; None if they are
    or there are none.
    """

    base: Run
    run: Run
    asked: Options
    tasks: Sequence[str]
    pairs: Sequence[Pairs]
    metrics: Sequence[PairedMetric]
    differences: Sequence[SettingDifference]
    tokens_left_out: str | None
    answers_left_out: str | None = None

    @property
    def path(self) -> str:
        """The run, for places."""
        return self.run.address


RunRule = Callable[[RunFacts], Iterator[Warning]]
RowRule = Callable[["Row", str], Iterator[Warning]]


def _findings(facts: RunFacts) -> Iterator[Warning]:
    for pairs in facts.pairs:
        for finding in pairs.findings:
            yield doubtful(facts.path, finding)


def _files(facts: RunFacts) -> Iterator[Warning]:
    for run in (facts.base, facts.run):
        for fault in run.faults:
            yield Warning(
                code=fault.code,
                place=Place(run=run.address, task=fault.task),
                text=fault.text if fault.task is None else f"{fault.task}: {fault.text}",
                way_out=fault.way_out,
            )


def _settings(facts: RunFacts) -> Iterator[Warning]:
    yield from map(setting_differs, facts.differences)


def _samples(facts: RunFacts) -> Iterator[Warning]:
    for pairs in facts.pairs:
        if pairs.dropped.count:
            yield samples_left_out(facts.path, pairs.dropped)


def _tasks(facts: RunFacts) -> Iterator[Warning]:
    for name in facts.tasks:
        if name not in facts.run.tasks:
            yield task_in_one_run(facts.path, name, only_baseline=True)
    for name in facts.run.tasks:
        if name not in facts.base.tasks:
            yield task_in_one_run(facts.path, name, only_baseline=False)


def _choices(facts: RunFacts) -> Iterator[Warning]:
    """Tasks without the filter or the metric that was asked for."""
    paired = {pairs.task for pairs in facts.pairs}
    for name in facts.tasks:
        if facts.asked.filter is not None and name in facts.run.tasks and name not in paired:
            yield filter_missing(facts.path, name, facts.asked.filter)
    wanted = facts.asked.metric
    having = {metric.pairs.task for metric in facts.metrics if metric.metric == wanted}
    for name in facts.tasks:
        if wanted is not None and name in paired and name not in having:
            yield metric_missing(facts.path, name, wanted)


def _metrics(facts: RunFacts) -> Iterator[Warning]:
    for pairs in facts.pairs:
        sides = (pairs.baseline.metrics, pairs.compressed.metrics)
        for only_baseline, (here, there) in ((True, sides), (False, sides[::-1])):
            for metric in here:
                if metric not in there and metric not in AGGREGATED:
                    yield metric_in_one_run(facts.path, pairs, metric, only_baseline=only_baseline)


def _tokens(facts: RunFacts) -> Iterator[Warning]:
    if facts.tokens_left_out is not None:
        yield tokens_not_measured(facts.path, facts.tokens_left_out)


def _answers(facts: RunFacts) -> Iterator[Warning]:
    if facts.answers_left_out is not None:
        yield answers_left_out(facts.path, facts.answers_left_out)
    for pairs in facts.pairs:
        if pairs.answers is None:
            continue
        unknown = pairs.doc_ids[(pairs.answers.never < 0).cpu().numpy()].tolist()
        if unknown:
            yield answers_not_measured(facts.path, pairs, unknown)
        if pairs.answers.near_ties > 0:
            yield near_ties(facts.path, pairs, pairs.answers)


def _choice_counts(facts: RunFacts) -> Iterator[Warning]:
    held = [
        metric
        for metric in (primaries(facts.metrics) if facts.metrics else [])
        if metric.divergence is not None and len(metric.rows)
    ]
    counts = [metric.pairs.choices.double().median() for metric in held]
    if len(held) > 1 and len(set(found := torch.stack(counts).tolist())) > 1:
        tasks = [metric.pairs.task for metric in held]
        yield choices_differ(facts.path, dict(zip(tasks, map(int, found), strict=True)))


def _positions(row: Row, run: str) -> Iterator[Warning]:
    if row.first_positions_only:
        yield first_positions_only(run, row)


RUN_RULES: tuple[RunRule, ...] = (
    _files,
    _findings,
    _settings,
    _tasks,
    _choices,
    _metrics,
    _samples,
    _tokens,
    _answers,
    _choice_counts,
)
ROW_RULES: tuple[RowRule, ...] = (_positions,)


def run_warnings(facts: RunFacts) -> tuple[Warning, ...]:
    """All warnings of a run, in the order of the rules."""
    return tuple(warning for rule in RUN_RULES for warning in rule(facts))


def group_warning(row: Row, base: Run, run: Run) -> Iterator[Warning]:
    """The harness's own score of a group, where that is the mean over its tasks."""
    key = f"{row.metric},{row.filter}"
    scores = [_number(side.results.results.get(row.name, {}).get(key)) for side in (base, run)]
    means = [_mean_of_tasks(side, row.name, key) for side in (base, run)]
    counted = (row.baseline_score, row.compressed_score)
    averaged = all(isclose(a, b, abs_tol=SAME) for a, b in zip(scores, means, strict=True))
    if averaged and not all(
        isclose(a, b, abs_tol=SAME) for a, b in zip(scores, counted, strict=True)
    ):
        yield group_averaged(run.address, row, (scores[0], scores[1]))


def _mean_of_tasks(run: Run, group: str, key: str) -> float:
    """The mean of the scores of a group's own parts, tasks or groups."""
    parts = [
        _number(run.results.results.get(name, {}).get(key))
        for name in run.results.group_subtasks.get(group, [])
    ]
    return sum(parts) / len(parts) if parts else nan


def _number(score: object) -> float:
    return float(score) if isinstance(score, (int, float)) else nan


def row_warnings(
    row: Row, run: str, of_run: Sequence[Warning], tasks: Sequence[str]
) -> tuple[Warning, ...]:
    """Those of a run that concern a row's tasks, and the row's own."""
    concerning = [warning for warning in of_run if warning.place.task in tasks]
    return (*concerning, *(warning for rule in ROW_RULES for warning in rule(row, run)))
