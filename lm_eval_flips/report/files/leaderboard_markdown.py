"""Board -> a GitHub-flavoured Markdown table."""

from __future__ import annotations

from lm_eval_flips.leaderboard import MARKDOWN_BEGINS
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.board.columns import (
    Column,
    group_text,
    line_columns,
    p_text,
    ranked_text,
)
from lm_eval_flips.report.files.leaderboard_table import settings_text
from lm_eval_flips.report.files.markdown import cell, table
from lm_eval_flips.report.names import model_name


def to_markdown(board: Board) -> str:
    """The board with a row a run, what it is over, and what is not on it."""
    numbers = line_columns(board)
    settings = any(run.entry.settings for run in board.runs)
    header = ["group", "model", "scheme", *(_head(own) for own in numbers), "p (Holm)"]
    rows = []
    for run in board.runs:
        pooled = run.entry.pooled
        cells = [_with_interval(own, own.show(pooled), own.interval(pooled)) for own in numbers]
        found = [group_text(run), cell(run.name), cell(run.scheme), *cells, p_text(run)]
        rows.append([*found, *([cell(settings_text(run))] if settings else [])])
    baseline = cell(model_name(board.baseline.model))
    parts = [
        MARKDOWN_BEGINS.decode(),
        f"Compressed runs against {baseline}. {cell(ranked_text(board))}",
        table([*header, *(["settings that differ"] if settings else [])], rows, left=3).rstrip(),
    ]
    parts += [f"- Left out: {cell(f'{own.folder}: {own.reason}')}" for own in board.left_out]
    return "\n\n".join(parts) + "\n"


def _head(column: Column) -> str:
    return cell(f"{column.name} [95 %]" if column.key == "score_change" else column.name)


def _with_interval(column: Column, text: str, interval: str) -> str:
    return cell(f"{text} {interval}" if column.key == "score_change" and interval else text)
