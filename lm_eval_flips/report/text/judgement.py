"""What became of a row's score: one sign, a few words, and whether they are welcome."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan
from typing import Literal

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row

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
    """The verdict on a row's score: against the margin where one was given, else by its p."""
    change = row.score_change if isinstance(row, Row) else row.estimates["score_change"].value
    way: Code = "better" if (change > 0) == row.higher_is_better else "worse"
    moved = "got better" if way == "better" else "got worse"
    if row.equivalence is not None:
        margin = f"±{row.equivalence.margin:g}"
        return {
            "equivalent": Judgement(
                code="same", words=f"is the same within {margin}", short=f"same {margin}"
            ),
            "both": Judgement(
                code=way, words=f"{moved}, by less than {margin}", short=f"{way} < {margin}"
            ),
            "different": Judgement(
                code=way, words=f"{moved}, maybe by more than {margin}", short=way
            ),
            "undecided": Judgement(
                code="open",
                words=f"is not told apart from the baseline's, nor shown to be within {margin}",
                short="not told apart",
            ),
        }[row.equivalence.verdict]
    if _different(row):
        return Judgement(code=way, words=moved, short=way)
    return Judgement(
        code="open", words="is not told apart from the baseline's", short="not told apart"
    )


def _different(row: Row | PlannedRow) -> bool:
    if isinstance(row, Row):
        return row.p_value < LEVEL
    low, high = row.estimates["score_change"].general
    return not isnan(low) and (low > 0 or high < 0)
