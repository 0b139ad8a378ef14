"""What the written answers of some samples show of themselves, in both runs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.written import MARKED, script_switched, sign_of

OTHER_SCRIPT = "script"


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenAnswers:
    """Characters of the baseline's and of the compressed run's answer, and the signs of each.

    Signs are those of ``pairs.written.MARKED`` that the log tells of an answer, and "script" of a
    compressed run's whose letters are of another script than the baseline's.
    """

    lengths: tuple[int, int]
    signs: tuple[tuple[str, ...], tuple[str, ...]]


def written_answers(metric: PairedMetric, rows: Tensor) -> list[WrittenAnswers | None]:
    """Those of some rows of a metric; None for each where nothing is written."""
    ours, theirs = (sign_of(metric, side, "length") for side in ("baseline", "compressed"))
    switched = script_switched(metric)
    if ours is None or theirs is None or switched is None:
        return [None] * len(rows)
    marks = {
        (side, name): (values[rows] > 0).tolist()
        for side in ("baseline", "compressed")
        for name in MARKED
        if (values := sign_of(metric, side, name)) is not None
    }
    marks["compressed", OTHER_SCRIPT] = switched[rows].tolist()

    def signs(side: str, place: int) -> tuple[str, ...]:
        return tuple(name for (of, name), own in marks.items() if of == side and own[place])

    lengths = zip(ours[rows].tolist(), theirs[rows].tolist(), strict=True)
    return [
        WrittenAnswers(
            lengths=(int(before), int(after)),
            signs=(signs("baseline", place), signs("compressed", place)),
        )
        for place, (before, after) in enumerate(lengths)
    ]
