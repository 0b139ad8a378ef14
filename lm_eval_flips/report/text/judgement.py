"""What became of a row's score: one sign, a few words, and whether they are welcome.

Of several models the p-values are adjusted by Holm over all of them: among many, some score is
higher by chance, and is not called better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from typing import Literal

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.measures.significance import holm
from lm_eval_flips.report.text.numbers import number

LEVEL = 0.05
Code = Literal["worse", "better", "same", "open"]
Tone = Literal["good", "bad", "open"]
# Without data for a verdict there is no colour of one: "not told apart" is not green.
TONES: dict[Code, Tone] = {"worse": "bad", "better": "open", "same": "good", "open": "open"}
SIGNS: dict[Code, str] = {"worse": "▼", "better": "▲", "same": "=", "open": "~"}
STYLES: dict[Tone, str] = {"bad": "red", "good": "green", "open": "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict on a score's change.

    ``words`` go on from "the score"; ``short`` stands alone in a table.
    """

    code: Code
    words: str
    short: str

    @property
    def sign(self) -> str:
        """One character, with a key below the table."""
        return SIGNS[self.code]

    @property
    def tone(self) -> Tone:
        """Whether it is welcome."""
        return TONES[self.code]

    @property
    def style(self) -> str:
        """Its colour in a terminal."""
        return STYLES[self.tone]


def judged(row: Row | PlannedRow) -> Judgement:
    """The verdict on one row's score: against the margin where one was given, else by its p."""
    return judged_rows([row])[0]


def judged_rows(rows: Sequence[Row | PlannedRow]) -> list[Judgement]:
    """The verdicts on several models' scores, their p-values adjusted by Holm over all of them.

    Where that alone decides, the words have both p-values.
    """
    p_values = [row.p_value if isinstance(row, Row) else nan for row in rows]
    found = []
    for row, p, adjusted in zip(rows, p_values, holm(p_values), strict=True):
        alone = _different(row)
        verdict = _of_row(row, different=alone and not adjusted >= LEVEL)
        if alone and adjusted >= LEVEL and verdict.code == "open":
            by_holm = f" (p {number(p)}, by Holm over {len(rows)} models {number(adjusted)})"
            verdict = replace(verdict, words=verdict.words + by_holm)
        found.append(verdict)
    return found


def _different(row: Row | PlannedRow) -> bool:
    """Whether the change is told apart from none, this row alone."""
    if row.equivalence is not None:
        return row.equivalence.verdict in ("different", "both")
    if isinstance(row, Row):
        return row.p_value < LEVEL
    low, high = row.estimates["score_change"].general
    return not isnan(low) and (low > 0 or high < 0)


def _of_row(row: Row | PlannedRow, *, different: bool) -> Judgement:
    change = row.score_change if isinstance(row, Row) else row.estimates["score_change"].value
    held = row.equivalence
    return verdict_of(
        rose=(change > 0) == row.higher_is_better,
        different=different,
        equivalence=None if held is None else held.verdict,
        margin=nan if held is None else held.margin,
    )


def verdict_of(
    *, rose: bool, different: bool, equivalence: str | None = None, margin: float = nan
) -> Judgement:
    """The verdict on a change.

    Args:
        rose: it is for the better, be it by chance.
        different: it is told apart from none.
        equivalence: what holding it against a margin gave; None without a margin.
        margin: that margin.

    Example:
        >>> verdict_of(rose=True, different=False).short
        'not told apart'
    """
    way: Code = "better" if rose else "worse"
    within, words = f"±{margin:g}", "got better" if rose else "got worse"
    if equivalence in ("equivalent", "both") and not (different and equivalence == "both"):
        return Judgement(code="same", words=f"is the same within {within}", short=f"same {within}")
    if equivalence == "both":
        return Judgement(
            code=way, words=f"{words}, by less than {within}", short=f"{way} < {within}"
        )
    if different and equivalence != "undecided":
        more = "" if equivalence is None else f", maybe by more than {within}"
        return Judgement(code=way, words=f"{words}{more}", short=way)
    open_words = "is not told apart from the baseline's"
    if equivalence is not None:
        open_words += f", nor shown to be within {within}"
    return Judgement(code="open", words=open_words, short="not told apart")
