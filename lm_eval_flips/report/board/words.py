"""Board -> what is said of all its runs: the same on the page, in Markdown, in a terminal."""

from __future__ import annotations

from math import isnan, nan

from lm_eval_flips.leaderboard.board import Board, Placed
from lm_eval_flips.report.looks import look
from lm_eval_flips.report.names import board_names
from lm_eval_flips.report.overview import Overview, ShownModel, overview
from lm_eval_flips.report.text.judgement import LEVEL, Judgement, verdict_of


def board_overview(board: Board) -> Overview:
    """What stands above the runs."""
    return overview(shown_models(board), board.distance)


def shown_models(board: Board) -> list[ShownModel]:
    """What is said of each run beside the others, under its short name, in their order."""
    names = board_names(board)
    return [_shown_model(run, names[run.path], board.distance) for run in board.runs]


def _shown_model(run: Placed, name: str, distance: str) -> ShownModel:
    return ShownModel(
        name=name,
        look=look(run.standing.family, run.standing.bits),
        standing=run.standing,
        verdict=verdict(run),
        distance=run.entry.pooled.numbers[distance] if distance else None,
    )


def verdict(run: Placed) -> Judgement:
    """The verdict on a run's score, adjusted over the runs of the board."""
    line = run.entry.pooled
    adjusted, held = run.p_holm_runs, line.equivalence_verdict
    return verdict_of(
        rose=line.loss < 0,
        different=not isnan(adjusted) and adjusted < LEVEL,
        equivalence=held,
        margin=nan if held is None else float(line.value("equivalence_margin")),
    )


def board_lines(board: Board) -> list[str]:
    """Which run is the closest, for a terminal; none where no distance is known."""
    told = board_overview(board)
    if told.closest is None or len(board.runs) < 2:
        return []
    return [f"closest to the baseline by {told.label}: {told.closest.name}, {told.closest.near}"]


def order_text(board: Board) -> str:
    """What the order goes by, in a sentence; "" for a single run."""
    told = board_overview(board)
    if len(board.runs) < 2 or not told.label:
        return ""
    return f"The closest to the baseline stand first, by {told.label}."


def ranked_text(board: Board) -> str:
    """What scores are held against each other over, and what a group is; one or two sentences."""
    if not board.ranked:
        if len(board.runs) < 2:
            return "One run: there is nothing to hold it against."
        return "There is no task that all runs share, so their scores are not held together."
    runs = len(board.runs)
    pairs = runs * (runs - 1) // 2
    over = f"paired tests, Holm over all {pairs} pairs" if pairs > 1 else "a paired test"
    tasks = f"{len(board.ranked)} task{'s' if len(board.ranked) != 1 else ''}"
    partial = ""
    if board.partial:
        names = ", ".join(run.name for run in board.partial[:3])
        more = f" and {len(board.partial) - 3} more" if len(board.partial) > 3 else ""
        partial = f" Other tasks do not count for the groups, as {names}{more} lack some."
    return (
        f"Groups are by the score over the {board.ranked_n} samples of {tasks} that all {runs} "
        f"runs have: runs that share one cannot be told apart at 5 % ({over}).{partial}"
    )
