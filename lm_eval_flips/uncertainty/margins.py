"""Top margins of a row, whose samples changed: with intervals that follow the row's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lm_eval_flips.measures.margin import MarginBin, Margins, margin_place, margins
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import RowErrors
from lm_eval_flips.uncertainty.parts import Part, mean_intervals, share_intervals


def row_margins(
    metrics: Sequence[PairedMetric], errors: RowErrors
) -> tuple[Margins | None, dict[str, Interval]]:
    """The margins of those metrics that have them, and the intervals of their numbers.

    Returns:
        None and nothing where no metric has margins.
    """
    known = [
        (m, m.margin, m.baseline_correct, m.changed)
        for m in metrics
        if m.margin is not None and m.baseline_correct is not None and m.changed is not None
    ]
    if not known:
        return None, {}
    margin = [own for _, own, _, _ in known]
    correct = [own for _, _, own, _ in known]
    changed = [own for _, _, _, own in known]
    measured = margins(
        margin=torch.cat(margin), correct=torch.cat(correct), changed=torch.cat(changed)
    )
    incorrect = [~own for own in correct]
    places = [margin_place(own) for own in margin]
    among = {"changed_of_correct": correct, "changed_of_incorrect": incorrect}
    for number in range(len(measured.bins)):
        among[f"bin {number}"] = [own == number for own in places]
    of_row = errors.of([columns[0] for columns in known])
    shares = share_intervals(
        of_row,
        {
            name: Part(counted=[c & a for c, a in zip(changed, own, strict=True)], among=own)
            for name, own in among.items()
        },
    )
    means = mean_intervals(
        of_row, margin, {"margin_of_correct": correct, "margin_of_incorrect": incorrect}
    )
    return _with_intervals(measured, shares), {
        **means,
        **{name: interval for name, interval in shares.items() if name.startswith("changed_of")},
    }


def _with_intervals(measured: Margins, shares: dict[str, Interval]) -> Margins:
    bins = [
        MarginBin(
            low=own.low, high=own.high, rate=replace(own.rate, interval=shares[f"bin {number}"])
        )
        for number, own in enumerate(measured.bins)
    ]
    return replace(
        measured,
        correct=replace(measured.correct, interval=shares["changed_of_correct"]),
        incorrect=replace(measured.incorrect, interval=shares["changed_of_incorrect"]),
        bins=tuple(bins),
    )
