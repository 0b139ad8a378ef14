"""A run's rows -> the table that `compare` prints of them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, isfinite

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.report.column import Column
from lm_eval_flips.report.columns import COLUMN, columns_at
from lm_eval_flips.report.text.fitted_table import STAYS, FittedTable, ShownColumn
from lm_eval_flips.report.text.sentences import metric_name

AnyRow = Row | PlannedRow
POOLED = "pooled"
# The mean of a distance is ruled by few samples where it is so many times the median.
HEAVY = 10
BESIDE_A_HEAVY_TAIL = 12  # a median then leaves after p and the change's interval
METRIC = "metric"
LEAST_METRIC = 14  # cells of a name


def run_table(run: RunComparison, *, fit: bool = True) -> FittedTable:
    """A run's tasks, groups and pool; a plan's estimates where the run is of its samples.

    A group, or the pool, that says the same as another row is not there twice.
    """
    rows, styles = shown_rows(run)
    metrics = [metric_name(row) for row in rows]
    # one metric of all rows is said once: it leaves first
    metric = ShownColumn(
        label=METRIC,
        cells=metrics,
        number=False,
        least=LEAST_METRIC,
        leaves=0 if len(set(metrics)) == 1 else 60,
    )
    numbers = [part for column in _columns(rows) for part in shown_column(column, rows)]
    return FittedTable(
        label="task",
        names=[row.name for row in rows],
        columns=[metric, *numbers],
        styles=styles,
        fit=fit,
    )


def shown_rows(run: RunComparison) -> tuple[list[AnyRow], list[str | None]]:
    """The rows of a table, and their styles."""
    of: tuple[Sequence[AnyRow], Sequence[AnyRow], AnyRow]
    if run.planned is not None:
        of = (run.planned.tasks, run.planned.groups, run.planned.pooled)
    else:
        of = (run.tasks, run.groups, run.pooled)
    tasks, groups, pooled = of
    said = {_said(row) for row in tasks}
    kept = []
    for group in groups:
        if _said(group) not in said and _said(group) != _said(pooled):
            said.add(_said(group))
            kept.append(group)
    last = [] if _said(pooled) in said else [pooled]
    rows = [*tasks, *kept, *last]
    return rows, [None] * len(tasks) + ["cyan"] * len(kept) + ["bold"] * len(last)


def _said(row: AnyRow) -> tuple[str, ...]:
    """What a row says, without its name."""
    return (
        row.metric,
        row.filter,
        *(
            text
            for column in columns_at("terminal", [row])
            for text in (column.text(row), column.interval(row))
        ),
    )


def _columns(rows: Sequence[AnyRow]) -> list[Column]:
    return columns_at("terminal", rows)


def shown_column(column: Column, rows: Sequence[AnyRow]) -> list[ShownColumn]:
    """A number's column, and one of its intervals where the table has room for these."""
    leaves = column.leaves
    if column.key.endswith("_median"):
        leaves = max(leaves, *(_needed(row, column) for row in rows))
    shown = ShownColumn(
        label=column.title(rows), cells=[column.text(row) for row in rows], leaves=leaves
    )
    if column.key != "score_change" and not all(isinstance(row, PlannedRow) for row in rows):
        return [shown]
    intervals = [column.interval(row) for row in rows]
    if not any(intervals):
        return [shown]
    of_change = column.key == "score_change"
    return [shown, ShownColumn(label="[95 %]", cells=intervals, leaves=10 if of_change else 5)]


def _needed(row: AnyRow, median: Column) -> int:
    """How long a median stays: as long as flips beside a mean that is infinite."""
    mean = row.numbers[median.key.removesuffix("_median")].value
    if mean == inf:
        return STAYS
    heavy = isfinite(mean) and mean > HEAVY * row.numbers[median.key].value
    return BESIDE_A_HEAVY_TAIL if heavy else 0


def legend(columns: Sequence[str]) -> str:
    """What the columns of these labels are."""
    meanings = [
        f"{column.label}: {column.meaning}"
        for column in COLUMN.values()
        if column.label in columns and column.label not in PLAIN
    ]
    return "; ".join(meanings)


PLAIN = ("n", "baseline", "score", "change")  # what any reader knows
