"""Top margins of a row, whose samples changed: with intervals that follow the row's errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lm_eval_flips.measures.margin import MarginBin, Margins, Rate, margin_place, margins
from lm_eval_flips.measures.shares import wilson
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.parts import Part, mean_intervals, share_intervals
from lm_eval_flips.uncertainty.row_errors import RowErrors


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
    with_margins, margin, correct, changed = (list(column) for column in zip(*known, strict=True))
    measured = margins(
        margin=torch.cat(margin), correct=torch.cat(correct), changed=torch.cat(changed)
    )
    incorrect = list(map(torch.logical_not, correct))
    of_row = errors.of(with_margins)
    if of_row.independent:  # the counts tell everything
        shares = {name: wilson(rate.changed, rate.n) for name, rate in _rates(measured).items()}
    else:
        among = {
            "changed_of_correct": correct,
            "changed_of_incorrect": incorrect,
            **_among_bins(margin, len(measured.bins)),
        }
        parts = {name: _part(changed, part) for name, part in among.items()}
        shares = share_intervals(of_row, parts)
    means = mean_intervals(
        of_row, margin, {"margin_of_correct": correct, "margin_of_incorrect": incorrect}
    )
    return _with_intervals(measured, shares), {
        **means,
        **{name: interval for name, interval in shares.items() if name.startswith("changed_of")},
    }


def _rates(measured: Margins) -> dict[str, Rate]:
    """Its rates, by the names of their parts."""
    return {
        "changed_of_correct": measured.correct,
        "changed_of_incorrect": measured.incorrect,
        **{f"bin {number}": own.rate for number, own in enumerate(measured.bins)},
    }


def _among_bins(margin: Sequence[Tensor], bins: int) -> dict[str, list[Tensor]]:
    """Which samples of each task are in each bin, by the bin's name."""
    places = list(map(margin_place, margin))
    return {f"bin {number}": [place == number for place in places] for number in range(bins)}


def _part(changed: Sequence[Tensor], among: Sequence[Tensor]) -> Part:
    """The changed ones among some samples, task by task."""
    return Part(counted=[c & a for c, a in zip(changed, among, strict=True)], among=among)


def _with_intervals(measured: Margins, shares: dict[str, Interval]) -> Margins:
    bins = [
        MarginBin(
            low=one.low, high=one.high, rate=replace(one.rate, interval=shares[f"bin {number}"])
        )
        for number, one in enumerate(measured.bins)
    ]
    return replace(
        measured,
        correct=replace(measured.correct, interval=shares["changed_of_correct"]),
        incorrect=replace(measured.incorrect, interval=shares["changed_of_incorrect"]),
        bins=tuple(bins),
    )
