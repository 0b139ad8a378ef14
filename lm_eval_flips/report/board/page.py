"""Board -> one self-contained HTML file that opens from disk, without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import inf, isfinite, isnan, nan
from typing import TYPE_CHECKING, Any

from lm_eval_flips.leaderboard import MADE_BY
from lm_eval_flips.leaderboard.board import Board, Placed
from lm_eval_flips.leaderboard.line import Line
from lm_eval_flips.report.board.columns import (
    Column,
    group_text,
    line_columns,
)
from lm_eval_flips.report.board.fronts import fronts
from lm_eval_flips.report.board.words import (
    board_overview,
    order_text,
    ranked_text,
    shown_models,
)
from lm_eval_flips.report.files.leaderboard_table import settings_text
from lm_eval_flips.report.names import model_name
from lm_eval_flips.report.overview import ShownModel
from lm_eval_flips.report.page.bundles import data_tables, refuse_missing
from lm_eval_flips.report.page.embedded import json_text, script_text, security_policy
from lm_eval_flips.report.text.numbers import MISSING, p_value, percent, points
from lm_eval_flips.report.text.warned import SETTINGS, warning_lines

if TYPE_CHECKING:
    from jinja2 import Environment

Cell = tuple[str, str, float | None]  # text, interval, what sorts it
NEEDS = ("itables", "jinja2")
FIRST = 8  # columns before the numbers
TEMPLATES = files("lm_eval_flips.report") / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scales:
    """What fills a sparkline in every row: the largest change, and the most flips, of a task."""

    change: float
    flips: float


def to_html(board: Board) -> str:
    """The page: a table that sorts and filters, of all tasks together or of one at a time.

    Raises:
        FlipsError: a package of the extra [report] is not installed.
    """
    refuse_missing(NEEDS)
    columns, scales = line_columns(board), _scales(board)
    library = script_text(data_tables())
    source = (TEMPLATES / "leaderboard.js").read_text(encoding="utf-8")
    script = script_text(
        source.replace("COUNT", str(len(columns) + 1)).replace("FIRST", str(FIRST))
    )
    return (
        _templates()
        .get_template("leaderboard.html.j2")
        .render(
            made_by=MADE_BY.decode(),
            board=board,
            baseline=model_name(board.baseline.model),
            ordered=order_text(board),
            ranked=ranked_text(board),
            told=board_overview(board),
            fronts=list(fronts(board)),
            first=FIRST,
            columns=columns,
            settings=any(run.entry.settings for run in board.runs),
            rows=[
                _row(run, model, board.tasks, columns, scales)
                for run, model in zip(board.runs, shown_models(board), strict=True)
            ],
            scale_change=points(scales.change).lstrip("+"),
            scale_flips=percent(scales.flips),
            warnings=[(run.name, _warnings(run)) for run in board.runs if _warnings(run)],
            tasks=_names(board),
            numbers=json_text(_numbers(board, columns)),
            library=library,
            script=script,
            policy=security_policy([library, script]).replace("'unsafe-eval' ", ""),
        )
    )


def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(str(TEMPLATES)), autoescape=True, undefined=StrictUndefined
    )


def _row(
    run: Placed,
    model: ShownModel,
    tasks: Sequence[str],
    columns: Sequence[Column],
    scales: _Scales,
) -> dict[str, Any]:
    lines = [run.entry.tasks.get(task) for task in tasks]
    changes = [nan if line is None else line.value("score_change") for line in lines]
    flips = [nan if line is None else line.value("flips") for line in lines]
    return {
        "run": run,
        "shown": model,
        "place": run.standing.place or "",
        "group": group_text(run),
        "first_group": (run.groups or ("",))[0],
        "cells": _cells(run.entry.pooled, columns, run.p_holm_runs),
        "change": _spark(changes, tasks, points, largest=scales.change, signed=True),
        "worst": min([value for value in changes if isfinite(value)], default=""),
        "flips": _spark(flips, tasks, percent, largest=scales.flips, signed=False),
        "settings": settings_text(run),
        "notes": list(_notes(run)),
    }


def _spark(
    values: Sequence[float],
    tasks: Sequence[str],
    show: Callable[[float], str],
    *,
    largest: float,
    signed: bool,
) -> str:
    from lm_eval_flips.report.board.sparkline import bars

    known = [(value, task) for value, task in zip(values, tasks, strict=True) if not isnan(value)]
    label = "nothing known"
    if known:
        least, most = min(known), max(known)
        label = (
            f"{len(known)} tasks, from {show(least[0])} ({least[1]}) to {show(most[0])} ({most[1]})"
        )
    return bars(values, largest=largest, signed=signed, label=label)


def _scales(board: Board) -> _Scales:
    lines = [line for run in board.runs for line in run.entry.tasks.values()]
    # the change of a perplexity would leave nothing to see of the accuracies
    flips = [line.value("flips") for line in lines]
    sizes = [abs(line.value("score_change")) for line in lines]
    answered = [size for size, share in zip(sizes, flips, strict=True) if not isnan(share)]
    changes = answered or sizes
    return _Scales(
        change=max((value for value in changes if isfinite(value)), default=0.0),
        flips=max((value for value in flips if isfinite(value)), default=0.0),
    )


def _cells(line: Line | None, columns: Sequence[Column], p: float) -> list[Cell]:
    """A row's numbers, and last its p; dashes where the run lacks the task."""
    if line is None:
        return [(MISSING, "", None)] * (len(columns) + 1)
    found = [(own.show(line), own.interval(line), _finite(own.sort(line))) for own in columns]
    return [*found, (p_value(p), "", _finite(p))]


def _numbers(board: Board, columns: Sequence[Column]) -> dict[str, list[list[Cell]]]:
    """By task or group each run's cells, in the order of the board."""
    by_name = [
        {line.task: line for line in run.entry.lines if line.level != "pooled"}
        for run in board.runs
    ]
    found = {}
    for name in _names(board):
        lines = [own.get(name) for own in by_name]
        found[name] = [
            _cells(line, columns, nan if line is None else line.value("p_holm")) for line in lines
        ]
    return found


def _names(board: Board) -> list[str]:
    """Groups, then tasks."""
    lines = [line for run in board.runs for line in run.entry.lines]
    groups = dict.fromkeys(line.task for line in lines if line.level == "group")
    return list(dict.fromkeys([*groups, *board.tasks]))


def _notes(run: Placed) -> Iterator[str]:
    """What a reader of the row must know beside its numbers."""
    entry = run.entry
    if entry.left_out:
        yield f"{entry.left_out} samples left out"
    if entry.not_compared:
        yield f"{len(entry.not_compared)} tasks in one run only"
    if entry.tokens_left_out:
        yield "token KL of another baseline, left out"
    if count := len(_warnings(run)):
        yield f"{count} warning{'s' * (count > 1)}"


def _warnings(run: Placed) -> list[str]:
    """The run's warnings; settings that differ have a column of their own."""
    return warning_lines(own for own in run.entry.warnings if own.code != SETTINGS)


def _finite(value: float) -> float | None:
    return value if abs(value) < inf else None
