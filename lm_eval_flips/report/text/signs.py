"""A model's verdicts as signs, with the words that belong to each: for a line a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.warnings import Warning  # noqa: A004
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.text.judgement import SIGNS, Code, Judgement, Tone
from lm_eval_flips.report.text.numbers import p_value

BEYOND, PARTLY, WITHIN, WARNED = "●", "◐", "○", "!"
# What the signs say, once for all models.
SCORE_WORDS: Mapping[Code, str] = {
    "worse": "score worse than the baseline's",
    "better": "score better",
    "same": "score the same within the margin",
    "open": "score not told apart from the baseline's, which is no evidence that it is the same",
}
FLOOR_WORDS = {
    BEYOND: "beyond the noise floor in everything",
    PARTLY: "in some",
    WITHIN: "not beyond the noise floor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """One character, whether it is welcome, what a screen reader says, and the numbers behind."""

    mark: str
    tone: Tone
    words: str
    detail: str


def signs(
    row: Row | PlannedRow,
    verdict: Judgement,
    *,
    adjusted: float,
    warnings: Sequence[Warning] = (),
) -> Iterator[Sign]:
    """A model's signs: of its score, of the noise floor where there is one, of its warnings.

    Args:
        row: over all its tasks.
        verdict: on its score.
        adjusted: the p of no change, by Holm over all models; nan where there is none.
        warnings: its own.
    """
    yield Sign(
        mark=verdict.sign,
        tone=verdict.tone,
        words=f"score {verdict.short}",
        detail=_score(row, adjusted),
    )
    if isinstance(row, Row) and row.excess:
        yield _floor(row)
    if warnings:
        count = f"{len(warnings)} warning{'s' * (len(warnings) != 1)}"
        yield Sign(mark=WARNED, tone="bad", words=count, detail=f"{count}: see below")


def _score(row: Row | PlannedRow, adjusted: float) -> str:
    if not isinstance(row, Row) or adjusted != adjusted:
        return f"score {COLUMN['score_change'].text(row)}"
    return f"p {p_value(row.p_value)} ({row.test}), by Holm {p_value(adjusted)}"


def _floor(row: Row) -> Sign:
    beyond = [COLUMN[key].label for key, own in row.excess.items() if own.verdict == "beyond"]
    if not beyond:
        return Sign(
            mark=WITHIN,
            tone="open",
            words="not beyond the noise floor",
            detail=f"noise floor: not beyond it, n = {row.n}",
        )
    everywhere = len(beyond) == len(row.excess)
    return Sign(
        mark=BEYOND if everywhere else PARTLY,
        tone="bad",
        words=f"beyond the noise floor in {', '.join(beyond)}",
        detail=f"noise floor: beyond it in {', '.join(beyond)}",
    )


def sign_key(found: Sequence[Sequence[Sign]]) -> list[tuple[str, str]]:
    """What the signs of all models say, each sign once."""
    marks = {sign.mark for own in found for sign in own}
    scores = [(SIGNS[code], words) for code, words in SCORE_WORDS.items() if SIGNS[code] in marks]
    floor = [(mark, words) for mark, words in FLOOR_WORDS.items() if mark in marks]
    warned = [(WARNED, "warnings")] if WARNED in marks else []
    return [*scores, *floor, *warned]
