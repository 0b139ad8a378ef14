"""Estimates of all documents from a plan's samples -> table and sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isnan

from lm_eval_flips.comparison.planned import Estimate, Planned
from lm_eval_flips.report.text.numbers import MISSING, percent, signed


def _shown(estimate: Estimate | None, show: Callable[[float], str]) -> str:
    if estimate is None or isnan(estimate.value):
        return MISSING
    low, high = estimate.interval
    if isnan(low):
        return show(estimate.value)
    ends = f"{show(low).removesuffix(' %')}, {show(high).removesuffix(' %')}"
    return f"{show(estimate.value)} [{ends}]"


def planned_lines(planned: Planned) -> Iterator[str]:
    """What is said below the table."""
    row = planned.pooled
    found = row.estimates.get("all_flips", row.estimates.get("flips"))
    if found is not None:
        what = "all flips" if "all_flips" in row.estimates else "flips"
        yield (
            f"plan {planned.path}, seed {planned.seed}: {row.n} of {row.documents} documents; "
            f"plain random sampling would need {_samples(found)} for this interval of {what}"
        )
    if (lost := row.estimates.get("negative_flip_rate")) is not None and not isnan(lost.value):
        yield f"{_shown(lost, percent)} of the baseline's correct answers lost"
    if row.equivalence is not None:
        low, high = row.equivalence.inner
        yield (
            f"equivalence within ±{row.equivalence.margin:g}: {row.equivalence.sentence} (of "
            f"questions like these: 90 % interval [{signed(low)}, {signed(high)}])"
        )


def _samples(estimate: Estimate) -> str:
    return MISSING if isnan(estimate.plain_samples) else f"{estimate.plain_samples:.0f}"
