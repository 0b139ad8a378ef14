"""Board -> its pictures of size against distance, where two models have both."""

from __future__ import annotations

from collections.abc import Iterator

from markupsafe import Markup

from lm_eval_flips.comparison.standing import PARETO
from lm_eval_flips.leaderboard.board import Board
from lm_eval_flips.report.board.front import Point, front
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.looks import look
from lm_eval_flips.report.names import board_names

UNITS = {"flips": "%", "choice_kl": "nats"}


def fronts(board: Board) -> Iterator[tuple[str, Markup]]:
    """Each picture with its title."""
    for key in PARETO:
        label = COLUMN[key].label
        drawn = front(
            list(_points(board, key)),
            label=label,
            unit=UNITS[key],
            log=key == "choice_kl",
            baseline=board.size,
        )
        if drawn:
            yield f"Size against {label}", drawn


def _points(board: Board, key: str) -> Iterator[Point]:
    names = board_names(board)
    for run in board.runs:
        own, number = run.standing, run.entry.pooled.numbers[key]
        if own.size is not None and number.known:
            yield Point(
                name=names[run.path],
                bytes=float(own.size.bytes),
                distance=float(number.value),
                near=COLUMN[key].shown(number),
                look=look(own.family, own.bits),
                on_front=own.pareto[key] is True,
            )
