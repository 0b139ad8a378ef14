"""Board -> a GitHub-flavoured Markdown table."""

from __future__ import annotations

from lm_eval_flips.leaderboard import MARKDOWN_BEGINS
from lm_eval_flips.leaderboard.board import Board, Placed
from lm_eval_flips.report.board.columns import (
    Column,
    group_text,
    line_columns,
    p_text,
)
from lm_eval_flips.report.board.words import board_lines, order_text, ranked_text, shown_models
from lm_eval_flips.report.files.leaderboard_table import settings_text
from lm_eval_flips.report.files.markdown import cell, table
from lm_eval_flips.report.names import model_name
from lm_eval_flips.report.overview import ShownModel

OF_MODEL = ("model", "score", "scheme", "family", "bits", "size", "Pareto front")
STAR = "★ is the closest of its family."


def to_markdown(board: Board) -> str:
    """The board with a row a run, what it is over, and what is not on it."""
    numbers = line_columns(board)
    settings = any(run.entry.settings for run in board.runs)
    header = [*OF_MODEL, *(_head(own) for own in numbers), "p (Holm)", "group"]
    rows = []
    for run, model in zip(board.runs, shown_models(board), strict=True):
        pooled = run.entry.pooled
        cells = [_with_interval(own, own.show(pooled), own.interval(pooled)) for own in numbers]
        found = [*_of_model(run, model), *cells, p_text(run), group_text(run)]
        rows.append([*found, *([cell(settings_text(run))] if settings else [])])
    baseline = cell(model_name(board.baseline.model))
    parts = [
        MARKDOWN_BEGINS.decode(),
        " ".join(
            [
                f"Compressed runs against {baseline}.",
                *(cell(text) for text in (order_text(board), ranked_text(board)) if text),
                STAR,
            ]
        ),
        *(cell(line[0].upper() + line[1:]) + "." for line in board_lines(board)),
        table([*header, *(["settings that differ"] if settings else [])], rows, left=4).rstrip(),
    ]
    parts += [f"- Left out: {cell(f'{own.folder}: {own.reason}')}" for own in board.left_out]
    return "\n\n".join(parts) + "\n"


def _of_model(run: Placed, own: ShownModel) -> list[str]:
    """Its name, verdict, scheme and size; a star where it is the closest of its family."""
    star = " ★" if run.standing.best_of_family else ""
    words = [run.name + star, own.verdict.short, run.scheme, run.family, own.bits, own.size]
    return [cell(text) for text in (*words, own.front)]


def _head(column: Column) -> str:
    return cell(f"{column.name} [95 %]" if column.key == "score_change" else column.name)


def _with_interval(column: Column, text: str, interval: str) -> str:
    return cell(f"{text} {interval}" if column.key == "score_change" and interval else text)
