"""One row of a comparison on a board: a task's, a group's or the pool's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.comparison.numbers import SPECS, one_each
from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.comparison.spec import Number

Level = Literal["task", "group", "pooled"]

POOLED = "pooled"
PLACE: Mapping[str, int] = {spec.key: place for place, spec in enumerate(SPECS)}


class Numbers(Mapping[str, Number]):
    """A row's numbers by key, kept as a table: boards hold a hundred thousand rows.

    Args:
        table: value, low and high end of the interval of each of ``SPECS``, and whether the value
            is a whole number, ``[specs, 4]``.
    """

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table

    @classmethod
    def of(cls, numbers: Mapping[str, Number]) -> Numbers:
        """A row's numbers as a table."""
        known = [numbers[spec.key] for spec in SPECS]
        rows = [(own.value, *own.interval, isinstance(own.value, int)) for own in known]
        return cls(np.array(rows, np.float64))

    def __getitem__(self, key: str) -> Number:
        value, low, high, whole = self.table[PLACE[key]].tolist()
        return Number.between(
            key, int(value) if whole else value, low, high, unit=SPECS[PLACE[key]].unit
        )

    def __repr__(self) -> str:
        return f"Numbers({dict(self)})"

    def __iter__(self) -> Iterator[str]:
        return iter(PLACE)

    def __len__(self) -> int:
        return len(PLACE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a board keeps of a row: every number of ``comparison/numbers.py``, and what is none.

    ``level`` says whether ``task`` names a task, a group of the harness, or the pool of all tasks.
    ``token_lower_bound_top`` is K where token_kl is a lower bound from the K likeliest tokens.
    """

    level: Level
    task: str
    filter: str
    metric: str
    higher_is_better: bool
    numbers: Numbers
    token_kl_first_position_only: bool | None
    token_lower_bound_top: int | None
    equivalence_verdict: str | None
    test: str
    error_method: str

    def value(self, key: str) -> int | float:
        """A number by its key; nan where it is undefined."""
        return self.numbers[key].value

    @property
    def loss(self) -> float:
        """How much worse the score became; negative where it became better."""
        change = self.value("score_change")
        return -change if self.higher_is_better else change


def lines_of(run: RunComparison) -> Iterator[Line]:
    """A run's lines: one for each task and group, then the pool.

    A task or group of several metrics is told by its first binary one, else by its first.
    """
    for row in one_each(run.tasks).values():
        yield line_of(row, "task")
    for row in one_each(run.groups).values():
        yield line_of(row, "group")
    yield line_of(run.pooled, "pooled")


def line_of(row: Row, level: Level) -> Line:
    """A row of a board."""
    return Line(
        level=level,
        task=POOLED if level == "pooled" else row.name,
        filter=row.filter,
        metric=row.metric,
        higher_is_better=row.higher_is_better,
        numbers=Numbers.of(row.numbers),
        token_kl_first_position_only=None if row.tokens is None else row.first_positions_only,
        token_lower_bound_top=None if row.tokens is None else row.tokens.top,
        equivalence_verdict=None if row.equivalence is None else row.equivalence.verdict,
        test=row.test,
        error_method=row.error_method,
    )
