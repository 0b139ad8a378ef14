"""What a column is: a number's label, meaning, and how it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.spec import Number, Unit
from lm_eval_flips.report.text.numbers import (
    MISSING,
    count,
    nats,
    number,
    p_value,
    percent,
    points,
    signed,
    tokens,
)

Place = Literal["terminal", "page", "card", "board"]
Tone = Literal["loss", "gain", "movement", "plain"]
EVERYWHERE: frozenset[Place] = frozenset(("terminal", "page", "card", "board"))
NOWHERE: frozenset[Place] = frozenset()  # in files only

# How a value is shown: by its unit, alike everywhere.
SHOWN: Mapping[Unit, Callable[[float], str]] = {
    "count": count,
    "share": percent,
    "score": number,
    "nats": nats,
    "bits": number,
    "ratio": number,
    "characters": count,
    "correlation": number,
    "auroc": number,
    "tokens": tokens,
    "p": p_value,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A number as people read it.

    ``leaves`` is its place in the order in which columns leave a table that is too narrow, the
    lowest first. ``tone`` says what more of it means. ``change`` is shown with its sign.
    ``otherwise`` is the number that stands in where a row lacks this one; it is not shown where
    it is the number ``unless`` in every row, nor, with ``unless_0``, where it is 0 in every row.
    """

    key: str
    label: str
    meaning: str
    leaves: int = 50
    tone: Tone = "plain"
    change: bool = False
    otherwise: str = ""
    unless: str = ""
    unless_0: bool = False
    places: frozenset[Place] = EVERYWHERE

    def number(self, row: Row | PlannedRow) -> Number:
        """The number of a row, or what stands in for it."""
        numbers = row.numbers
        own = numbers[self.key]
        if self.otherwise and not own.known:
            own = numbers[self.otherwise]
        if isinstance(row, PlannedRow) and own.key in row.estimates:
            # a table of a plan says what the full run would have shown
            own = replace(own, interval=row.estimates[own.key].interval)
        return own

    def text(self, row: Row | PlannedRow) -> str:
        """The number as it is shown; – where there is none."""
        return self.shown(self.number(row))

    def interval(self, row: Row | PlannedRow) -> str:
        """Its 95 % interval as it is shown; empty where there is none."""
        return self.shown_interval(self.number(row))

    def shown(self, own: Number) -> str:
        """A number as this column shows it."""
        show = self._show(own)
        return show(float(own.value)) if own.known else MISSING

    def shown_interval(self, own: Number) -> str:
        """A number's interval as this column shows it; an open end is –."""
        if not own.known or (isnan(own.interval.low) and isnan(own.interval.high)):
            return ""
        show = self._show(own)
        low, high = (show(float(end)).removesuffix(" %") for end in own.interval)
        return f"[{low}, {high}]"

    def _show(self, own: Number) -> Callable[[float], str]:
        if not self.change:
            return SHOWN[own.unit]
        return points if own.unit == "share" else signed

    def title(self, rows: Sequence[Row | PlannedRow]) -> str:
        """Its label over these rows: a bound from the likeliest tokens says so."""
        bound = self.key.startswith("token_") and any(
            isinstance(row, Row) and row.tokens is not None and row.tokens.top is not None
            for row in rows
        )
        return f"{self.label} ≥" if bound else self.label
