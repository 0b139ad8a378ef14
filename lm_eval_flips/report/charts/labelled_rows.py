"""The rows of a chart that has one a task and run: how many, in which order, under which label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.flips import ALL_TASKS
from lm_eval_flips.report.charts.marks import count_words
from lm_eval_flips.report.charts.shown_runs import ShownRun
from lm_eval_flips.report.charts.task_rows import TaskRow, task_names, task_rows

MOST_ROWS = 60
ROW = 20  # pixels

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRow(Generic[T]):
    """What is drawn of a run's task, or of its pool."""

    run: str
    label: str
    value: T


def labelled_rows(
    comparison: Comparison,
    shown: tuple[ShownRun, ...],
    *,
    of_task: Callable[[TaskRow], T | None],
    pooled: Callable[[ShownRun], T],
    size: Callable[[T], float],
    largest: str,
) -> tuple[list[LabelledRow[T]], str]:
    """A row for each task and run, task by task, then one for each run's pool.

    Where that is too many: of a single run the largest ones, of several their pools.

    Args:
        comparison: what is drawn.
        shown: its runs that are.
        of_task: what is drawn of a task; None where it has nothing.
        pooled: what is drawn of a run's pool, where it has several tasks.
        size: by which the largest are chosen.
        largest: what these are, in words.

    Returns:
        The rows, and what is left out, in words; "" for nothing.
    """
    short, several = task_names(comparison), len(shown) > 1
    by_task: dict[str, list[LabelledRow[T]]] = {}
    pools: list[LabelledRow[T]] = []

    def row(run: ShownRun, label: str, value: T) -> LabelledRow[T]:
        return LabelledRow(
            run=run.name, label=f"{label}, {run.name}" if several else label, value=value
        )

    for run in shown:
        values = [(task.row.name, of_task(task)) for task in task_rows(run.run)]
        known = [(name, value) for name, value in values if value is not None]
        for name, value in known:
            by_task.setdefault(name, []).append(row(run, short[name], value))
        if len(known) > 1:
            pools.append(row(run, ALL_TASKS, pooled(run)))
    rows = [row for of_name in by_task.values() for row in of_name]
    if len(rows) + len(pools) <= MOST_ROWS:
        return rows + pools, ""
    if several:
        by_run = [replace(pool, label=pool.run) for pool in pools[:MOST_ROWS]]
        return by_run, f"{count_words(len(by_task), 'task')} pooled"
    most = sorted(rows, key=lambda row: (-size(row.value), row.label))[: MOST_ROWS - 1]
    note = f"the {len(most)} of {len(rows)} tasks with the {largest}"
    return most + pools, note if len(most) < len(rows) else ""
