"""Answers that were drawn several times, in words."""

from __future__ import annotations

from collections.abc import Sequence

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.report.columns import COLUMN


def drawn_words(row: Row | PlannedRow) -> str:
    """How often draws of both models differ, beside draws of one; "" where nothing was drawn."""
    flips, floor, beyond = (
        COLUMN[key] for key in ("expected_flips", "seed_floor", "flips_beyond_seeds")
    )
    if not flips.number(row).known:
        return ""
    text = f"a draw of each differ in correctness in {flips.text(row)} of the answers"
    if floor.number(row).known:
        text += f", two of the baseline in {floor.text(row)}"
    if beyond.number(row).known:
        text += f"; beyond what draws change {beyond.text(row)} {beyond.interval(row)}"
        if beyond.number(row).interval.low <= 0:
            text += ", not told apart from nothing"
    return text


def runs_text(name: str, *, others: Sequence[str]) -> str:
    """A run's name, and how many other seeds stand beside it.

    Example:
        >>> runs_text("runs/a", others=("runs/b", "runs/c"))
        'runs/a and 2 more seeds'
    """
    count = len(others)
    return f"{name} and {count} more seed{'s' * (count != 1)}" if count else name
