"""What stands on top of a page: each compressed run in a sentence, a few numbers and a verdict."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isnan
from typing import Literal

from lm_eval_flips.comparison.result import Row, RunComparison
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.report.columns import COLUMN
from lm_eval_flips.report.text.drawn import drawn_words
from lm_eval_flips.report.text.numbers import nats, number, p_value, signed
from lm_eval_flips.report.text.sentences import LEVEL

Tone = Literal["good", "bad", "open"]
MINUS = re.compile(r"(?<!\w)-(?=[0-9.])")
NO_BREAK = "\N{NO-BREAK SPACE}"
TONES: dict[str, Tone] = {
    "equivalent": "good",
    "both": "good",
    "different": "bad",
    "undecided": "open",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with its interval, both as shown; the interval is empty where there is none."""

    label: str
    value: str
    interval: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A sentence that judges, and whether what it says is welcome."""

    text: str
    tone: Tone


def sentence(row: Row) -> str:
    """How many answers moved, and how little of that the score shows."""
    scores = f"{number(row.baseline_score)} to {number(row.compressed_score)}"
    if row.flips is None:
        what = "perplexity" if row.perplexity is not None else "score"
        drawn = drawn_words(row)
        return f"Over {row.n:,} samples the {what} went from {scores}." + (
            f" Of answers drawn anew, {drawn}." if drawn else ""
        )
    lost, won = row.flips.correct_to_incorrect, row.flips.incorrect_to_correct
    return (
        f"Of {row.n:,} answers, {lost:,} {_were(lost)} right and {_are(lost)} now wrong; "
        f"{won:,} {_were(won)} wrong and {_are(won)} now right. The score went from {scores}."
    )


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def figures(row: Row) -> Iterator[Figure]:
    """Score change, flips and distances of a row, each with its 95 % interval."""
    notes = {
        "score_change": f"{number(row.baseline_score)} → {number(row.compressed_score)}",
        "choice_kl": _spread(row, "choice_kl"),
        "token_kl": _spread(row, "token_kl"),
    }
    if row.flips is not None and row.flips.wrong_to_wrong is not None:
        notes["all_flips"] = f"{row.flips.wrong_to_wrong:,} wrong in a new way"
    for key, label in FIGURES.items():
        column = COLUMN[key]
        if column.number(row).known:
            yield Figure(
                label=label,
                value=typeset(column.text(row)),
                interval=typeset(column.interval(row)),
                note=notes.get(key, ""),
            )


FIGURES = {
    "perplexity_ratio": "Perplexity ratio",
    "score_change": "Score change",
    "flips": "Flips",
    "all_flips": "All flips",
    "expected_flips": "Expected flips",
    "flips_beyond_seeds": "Beyond seeds",
    "choice_kl": "Choice KL",
    "token_kl": "Token KL",
}


def _spread(row: Row, key: str) -> str:
    """What a mean is of, and the median beside it: a few samples can rule the mean."""
    bound = "at least; " if COLUMN[key].title([row]).endswith("≥") else ""
    median = row.numbers[f"{key}_median"]
    middle = f", median {nats(median.value)}" if median.known else ""
    return f"{bound}nats, mean{middle}"


def interval_text(interval: Interval | None, shown: Callable[[float], str]) -> str:
    """Both ends in brackets, one of them – where the samples do not reach so far."""
    if interval is None or (isnan(interval.low) and isnan(interval.high)):
        return ""
    return typeset(f"[{shown(interval.low)}, {shown(interval.high)}]")


def typeset(number: str) -> str:
    """A number with a minus sign as wide as its plus sign; exponents stay as they are typed.

    Example:
        >>> typeset("[-0.0173, +2.10e-03]")
        '[−0.0173, +2.10e-03]'
    """
    return MINUS.sub("−", number)


def verdicts(run: RunComparison) -> Iterator[Verdict]:
    """Is the change real, is it small enough, is it more than noise: as far as was asked."""
    row = run.pooled
    if row.equivalence is not None:
        found = row.equivalence
        inner = interval_text(found.inner, signed)
        yield Verdict(
            text=f"{found.sentence} Margin ±{found.margin:g}, 90{NO_BREAK}% interval {inner}.",
            tone=TONES[found.verdict],
        )
    elif not isnan(row.p_value):
        yield _chance(row)
    if row.excess:
        told: defaultdict[str, list[str]] = defaultdict(list)
        for name, own in row.excess.items():
            told[own.verdict].append(_word(name))
        if within := told.get("at most twice"):
            yield Verdict(text=f"At most twice the noise floor: {', '.join(within)}.", tone="good")
        if within := told.get("not told apart"):
            words = f"Not told apart from the noise floor (n = {row.n}): {', '.join(within)}."
            yield Verdict(text=words, tone="open")
        if above := told.get("beyond"):
            yield Verdict(text=f"Beyond the noise floor: {', '.join(above)}.", tone="bad")


def _chance(row: Row) -> Verdict:
    p = p_value(row.p_value)
    p = p.replace(" ", NO_BREAK) if p.startswith("<") else f"={NO_BREAK}{p}"
    if row.p_value < LEVEL:
        return Verdict(text=f"The score changed: p{NO_BREAK}{p} ({row.test}).", tone="bad")
    return Verdict(
        text=f"The score's change may be chance: p{NO_BREAK}{p} ({row.test}). "
        "That is no evidence that it is the same.",
        tone="open",
    )


def _word(name: str) -> str:
    return name.replace("_", " ").replace("kl", "KL")
