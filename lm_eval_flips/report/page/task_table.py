"""The rows of all tasks and groups as a page's table takes them: to sort by, and to show."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from typing import Any

from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.report.charts.shown_runs import shown_runs
from lm_eval_flips.report.page.embedded import plain_number
from lm_eval_flips.report.text.headline import ends, typeset
from lm_eval_flips.report.text.numbers import MISSING, nats, number, p_value, percent, signed
from lm_eval_flips.report.text.sentences import metric_name

KINDS = ("task", "group", "pooled")
# A cell: the number to sort by, what is shown, and its 95 % interval as shown.
Cell = tuple[float | int | str | None, str, str]


def table_data(comparison: Comparison) -> dict[str, Any]:
    """Every row of every compressed run, by the runs' short names."""
    names = [run.name for run in shown_runs(comparison)]
    rows = [
        _row(place, kind, row)
        for place, run in enumerate(comparison.compressed)
        for kind, rows in enumerate((run.tasks, run.groups, (run.pooled,)))
        for row in rows
        if kind < 2 or len(run.tasks) > 1
    ]
    lower = any(
        row.tokens is not None and row.tokens.top is not None
        for run in comparison.compressed
        for row in run.tasks
    )
    return {"runs": names, "rows": rows, "token_kl_is_bound": lower}


def _row(run: int, kind: int, row: Row) -> dict[str, Any]:
    flips, interval = row.flips, row.intervals["score_change"]
    return {
        "run": run,
        "kind": KINDS[kind],
        "name": row.name,
        "metric": metric_name(row),
        "n": row.n,
        "before": _cell(row.baseline_score, number),
        "after": _cell(row.compressed_score, number),
        "change": _cell(row.score_change, signed, ends(row, "score_change", signed)),
        "drawn": None
        if isnan(interval.low) or row.perplexity is not None
        else [plain_number(end) for end in (interval.low, row.score_change, interval.high)],
        "p": _cell(row.p_value, p_value),
        "flips": _share(row, "flips"),
        "all_flips": _share(row, "all_flips"),
        "lost": _count(None if flips is None else flips.correct_to_incorrect),
        "won": _count(None if flips is None else flips.incorrect_to_correct),
        "wrong": _count(None if flips is None else flips.wrong_to_wrong),
        "choice_kl": _nats(row, "choice_kl"),
        "token_kl": _nats(row, "token_kl"),
    }


def _cell(value: float, shown: Callable[[float], str], interval: str = "") -> Cell:
    return plain_number(value), typeset(shown(value)), interval


def _share(row: Row, name: str) -> Cell:
    if row.flips is None:
        return None, MISSING, ""
    value = row.flips.flips if name == "flips" else row.flips.all_flips
    return _cell(value, percent, "" if isnan(value) else ends(row, name, percent))


def _count(value: int | None) -> Cell:
    return (None, MISSING, "") if value is None else (value, f"{value:,}", "")


def _nats(row: Row, name: str) -> Cell:
    if name == "choice_kl":
        value = None if row.distances is None else row.distances.choice_kl.mean
    else:
        value = None if row.tokens is None else row.tokens.token_kl.typical
        name = name if name in row.intervals else "token_kl_first_position"
    return (None, MISSING, "") if value is None else _cell(value, nats, ends(row, name, nats))
