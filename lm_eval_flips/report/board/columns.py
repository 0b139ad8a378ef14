"""The board's columns, as the page and the Markdown table show them: text, and what sorts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan, nan

from lm_eval_flips.leaderboard.board import Board, Placed
from lm_eval_flips.leaderboard.line import Line
from lm_eval_flips.report import column as columns
from lm_eval_flips.report.columns import COLUMNS
from lm_eval_flips.report.text.numbers import MISSING, p_value

Show = Callable[[Line], str]
Sort = Callable[[Line], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A number of a line: its name, what it means, its text, and the number that sorts it.

    ``interval`` is its 95 % interval as text, "" where there is none.
    """

    key: str
    name: str
    meaning: str
    show: Show
    sort: Sort
    interval: Show = lambda line: ""


def line_columns(board: Board) -> list[Column]:
    """The columns of numbers, those that no run has left out."""
    lines = [line for run in board.runs for line in run.entry.lines]
    return [own for own in _columns(board) if any(own.show(line) != MISSING for line in lines)]


def _columns(board: Board) -> Sequence[Column]:
    bound = any(run.entry.pooled.token_lower_bound_top is not None for run in board.runs)
    return (
        *(_number(column, bound=bound) for column in COLUMNS if _shown(column, board)),
        Column(
            key="equivalence",
            name="" if isnan(board.margin) else f"within ±{board.margin:g}",
            meaning="equivalence of the scores: TOST at 5 % with this margin",
            show=lambda line: line.equivalence_verdict or MISSING,
            sort=lambda line: _VERDICTS.get(line.equivalence_verdict or "", nan),
        ),
    )


def _shown(column: columns.Column, board: Board) -> bool:
    lines = (line for run in board.runs for line in run.entry.lines)
    above = not column.unless_0 or any(abs(line.value(column.key)) > 0 for line in lines)
    return "board" in column.places and above


def _number(column: columns.Column, *, bound: bool) -> Column:
    """A column of the list, of lines."""
    least = bound and column.key.startswith("token_")
    return Column(
        key=column.key,
        name=f"{column.label} ≥" if least else column.label,
        meaning=column.meaning,
        show=lambda line: column.shown(line.numbers[column.key]),
        sort=lambda line: float(line.value(column.key)),
        interval=lambda line: column.shown_interval(line.numbers[column.key]),
    )


_VERDICTS = {"equivalent": 0.0, "both": 1.0, "undecided": 2.0, "different": 3.0}


def group_text(run: Placed) -> str:
    """The groups that a run is in: "2", or "2–4"; – without a ranking."""
    if run.groups is None:
        return MISSING
    first, last = run.groups
    return str(first) if first == last else f"{first}–{last}"


def p_text(run: Placed) -> str:
    """The pool's p of no change, adjusted over the runs."""
    return p_value(run.p_holm_runs)
