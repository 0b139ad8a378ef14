"""Paired metrics -> the rows of tasks, of groups and of all tasks pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Protocol, TypeVar, runtime_checkable

from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.measures.bootstrap import Bootstrap
from lm_eval_flips.measures.decisions import PooledDecisions, decide
from lm_eval_flips.measures.significance import holm
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.judged import judged_numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Measures rows, with a margin and beside a noise floor where these are asked for."""

    margin: float | None
    bootstrap: Bootstrap | None
    floor: Mapping[tuple[str, str, str], PairedMetric]

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> Row:
        """Measure some metrics together, beside their floors where all have one."""
        metrics = one_direction(metrics)
        floors = [self.floor[metric_key(m)] for m in metrics if metric_key(m) in self.floor]
        whole = floors if len(floors) == len(metrics) else ()
        return measure(
            metrics, name=name, margin=self.margin, floors=whole, bootstrap=self.bootstrap
        )


class KnownRows:
    """Measures rows once, however many names they have: a group of all tasks is the pool.

    Args:
        rows: measures them.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._known: dict[tuple[int, ...], Row] = {}

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> Row:
        """The row of some metrics together."""
        key = tuple(map(id, metrics))  # which the caller keeps
        if key not in self._known:
            self._known[key] = self._rows.row(metrics, name=name)
        return replace(self._known[key], name=name)


def one_direction(metrics: Sequence[PairedMetric]) -> Sequence[PairedMetric]:
    """The metrics; where less is better for some, what is right of all, which has one direction."""
    directions = {m.higher_is_better for m in metrics}
    if len(directions) > 1 and all(m.baseline_correct is not None for m in metrics):
        return [m.correctness() for m in metrics]
    return metrics


R_co = TypeVar("R_co", covariant=True)


@runtime_checkable
class MakesRows(Protocol[R_co]):
    """Makes one row of some metrics together."""

    def row(self, metrics: Sequence[PairedMetric], *, name: str) -> R_co:
        """Make it."""


def metric_key(metric: PairedMetric) -> tuple[str, str, str]:
    """Task, filter and metric."""
    return metric.pairs.task, metric.pairs.filter, metric.metric


def primaries(metrics: Sequence[PairedMetric]) -> list[PairedMetric]:
    """The one metric of each task that stands for it: the first binary one, else the first."""
    chosen: dict[str, PairedMetric] = {}
    for paired in metrics:
        now = chosen.setdefault(paired.pairs.task, paired)
        if now.baseline_correct is None and paired.baseline_correct is not None:
            chosen[paired.pairs.task] = paired
    binary = [paired for paired in chosen.values() if paired.baseline_correct is not None]
    # A mean of accuracies and log-likelihoods, or of words and bytes, means nothing: the binary
    # ones are pooled where there are any, else those that share the first one's metric.
    first = next(iter(chosen.values())).metric
    return binary or [paired for paired in chosen.values() if paired.metric == first]


def adjusted(rows: Sequence[Row], chosen: Sequence[int]) -> tuple[Row, ...]:
    """The rows with p adjusted over the tasks, for those that stand for their task."""
    adjusted = dict(zip(chosen, holm([rows[i].p_value for i in chosen]), strict=True))
    return tuple(replace(row, p_holm=adjusted.get(i, nan)) for i, row in enumerate(rows))


def decisions(pooled: Row, tasks: Sequence[Row]) -> PooledDecisions | None:
    """Ask of all tasks together whether the score got worse; None for a single task."""
    if len(tasks) < 2:
        return None
    p_values = {row.name: row.p_loss for row in tasks}
    if not pooled.tested.tasks_independent:
        tested = sum(not isnan(p) for p in p_values.values())
        return PooledDecisions(
            n=tested, pooled=pooled.p_loss, fisher=nan, largest=nan, largest_task=None
        )
    counts = {
        row.name: (row.tested.lost, row.tested.won)
        for row in tasks
        if row.tested.lost is not None and row.tested.won is not None
    }
    return decide(
        pooled=pooled.p_loss,
        p_values=p_values,
        counts=counts if len(counts) == len(tasks) else None,
    )


def pooled_row(
    metrics: Sequence[PairedMetric], measured: Sequence[Row], rows: MakesRows[Row]
) -> Row:
    """Pool all tasks' primary metrics; those of a single task are its own row.

    A judge's scores have no part in such a score, and are pooled beside it over all that it judged.
    """
    chosen = primaries(metrics)
    if len(chosen) == 1:
        row = replace(measured[metrics.index(chosen[0])], name="pooled")
    else:
        row = rows.row(chosen, name="pooled")
    judged = {own.pairs.task: own for own in (*metrics, *chosen) if own.pairs.judged is not None}
    if {id(own) for own in judged.values()} <= set(map(id, chosen)):
        return row
    means, intervals = judged_numbers(list(judged.values()))
    return replace(row, means={**row.means, **means}, intervals={**row.intervals, **intervals})


def group_rows(base: Run, metrics: Sequence[PairedMetric], rows: MakesRows[R_co]) -> Iterable[R_co]:
    """Pool the harness's groups: each metric that all of a group's tasks have, else the primary."""
    by_key: dict[tuple[str, str], dict[str, PairedMetric]] = {}
    for paired in metrics:
        key = (paired.pairs.filter, paired.metric)
        by_key.setdefault(key, {})[paired.pairs.task] = paired
    chosen = {paired.pairs.task: paired for paired in primaries(metrics)}
    for group, leaves in base.groups.items():
        whole = [by_leaf for by_leaf in by_key.values() if set(leaves) <= set(by_leaf)]
        if not whole and set(leaves) <= set(chosen):
            whole = [chosen]
        for by_leaf in whole:
            yield rows.row([by_leaf[leaf] for leaf in leaves], name=group)
