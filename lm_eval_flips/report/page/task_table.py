"""The rows of all tasks and groups as a page's table takes them: to sort by, and to show."""

from __future__ import annotations

from math import isnan
from typing import Any

from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.report.column import Column
from lm_eval_flips.report.columns import columns_at
from lm_eval_flips.report.names import run_names
from lm_eval_flips.report.page.embedded import plain_number
from lm_eval_flips.report.text.headline import typeset
from lm_eval_flips.report.text.sentences import metric_name

KINDS = ("task", "group", "pooled")
# A cell: the number to sort by, what is shown, and its 95 % interval as shown.
Cell = tuple[float | int | str | None, str, str]


def table_data(comparison: Comparison) -> dict[str, Any]:
    """Every row of every compressed run, by the runs' short names."""
    rows = [
        (place, kind, row)
        for place, run in enumerate(comparison.compressed)
        for kind, rows in zip(KINDS, (run.tasks, run.groups, (run.pooled,)), strict=True)
        for row in rows
        if kind != "pooled" or len(run.tasks) > 1
    ]
    columns = columns_at("page", [row for _, _, row in rows])
    return {
        "runs": run_names(comparison),
        "columns": [
            {
                "key": column.key,
                "label": column.title([row for _, _, row in rows]),
                "meaning": column.meaning,
            }
            for column in columns
        ],
        "rows": [_row(place, kind, row, columns) for place, kind, row in rows],
    }


def _row(run: int, kind: str, row: Row, columns: list[Column]) -> dict[str, Any]:
    low, high = row.intervals["score_change"]
    return {
        "run": run,
        "kind": kind,
        "name": row.name,
        "metric": metric_name(row),
        "cells": [_cell(column, row) for column in columns],
        "drawn": None
        if isnan(low) or row.perplexity is not None
        else [plain_number(end) for end in (low, row.score_change, high)],
    }


def _cell(column: Column, row: Row) -> Cell:
    own = column.number(row)
    if not own.known:
        return None, column.text(row), ""
    if own.unit == "count":
        return int(own.value), f"{own.value:,.0f}", ""
    shown, interval = (typeset(text) for text in (column.shown(own), column.shown_interval(own)))
    return plain_number(float(own.value)), shown, interval
