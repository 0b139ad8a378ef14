"""Flips of answers that were drawn several times, as probabilities, with intervals by document."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lm_eval_flips.measures.shares import share_interval
from lm_eval_flips.measures.significance import Interval, mean_interval
from lm_eval_flips.pairs.drawn import flips_of_draws
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.row_errors import RowErrors

# The number of each chance of a document: shares, and their excess over what draws change.
SHARES = {
    "expected_flips": "flips",
    "expected_correct_to_incorrect_share": "lost",
    "expected_incorrect_to_correct_share": "won",
    "seed_floor": "baseline",
    "compressed_seed_floor": "compressed",
}
BEYOND = "flips_beyond_seeds"


def drawn_numbers(
    metrics: Sequence[PairedMetric], errors: RowErrors
) -> tuple[dict[str, float], dict[str, Interval]]:
    """The means of these chances over the samples, and their 95 % intervals.

    Args:
        metrics: the row's, one a task; those that were drawn once count for nothing.
        errors: of the row.

    Returns:
        Values and intervals by key; nothing of what no task has.
    """
    found = [(metric, flips_of_draws(metric)) for metric in metrics]
    drawn = [(metric, own) for metric, own in found if own is not None]
    means: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for key, name in {**SHARES, BEYOND: "beyond"}.items():
        values = [(metric, getattr(own, name)) for metric, own in drawn]
        known = [(metric, own) for metric, own in values if len(own) and not own.isnan().any()]
        if not known:
            continue
        of_row = errors.of([metric for metric, _ in known])
        columns = [own for _, own in known]
        means[key] = mean = float(torch.cat(columns).mean())
        error, freedom = of_row.of(columns)
        if key == BEYOND:
            intervals[key] = mean_interval(mean, error, freedom)
            continue
        n = of_row.documents if error == 0 else of_row.n
        intervals[key] = share_interval(mean, n, error, freedom, fractions=True)
    return means, intervals
