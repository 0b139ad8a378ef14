"""How much of the baseline's score is kept, where the baseline has one to keep."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import torch

from lm_eval_flips.measures.ratio import ratio_interval
from lm_eval_flips.measures.shares import share_interval
from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, mean_interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.errors import Errors
from lm_eval_flips.uncertainty.score import score_values


def recovery(errors: Errors, change: Interval) -> tuple[dict[str, float], dict[str, Interval]]:
    """The compressed score as a ratio of the baseline's, and the score of guessing.

    Where the baseline is not told from guessing there is nothing to keep, and a small loss would be
    a large share of it: nan. Where less of the score is better, as of perplexities, there is none.

    Args:
        errors: of the row.
        change: the 95 % interval of the score's change.

    Returns:
        ``recovery`` and ``chance_score`` by name, and the interval of the first.
    """
    score = score_values(errors.metrics)
    if not score.higher_is_better:
        return {}, {}
    marks = all(bool(((own == 0) | (own == 1)).all()) for own in score.baseline)
    chance = chance_score(errors.metrics) if marks else 0.0
    before = float(torch.cat(score.baseline).double().mean())
    after = float(torch.cat(score.compressed).double().mean())
    of_before = _interval(errors, score.baseline, before, marks=marks)
    if not of_before.low > chance:
        return {"recovery": nan, "chance_score": chance}, {"recovery": NO_INTERVAL}
    of_ratio = ratio_interval(top=after - before, of_top=change, bottom=before, of_bottom=of_before)
    return (
        {"recovery": after / before, "chance_score": chance},
        {"recovery": Interval(1 + of_ratio.low, 1 + of_ratio.high)},
    )


def chance_score(metrics: Sequence[PairedMetric]) -> float:
    """The score of guessing: one by the number of choices, 0 where an answer is written."""
    of_tasks = [
        torch.zeros(len(m.rows), dtype=torch.float64)
        if m.choices is None
        else 1 / m.choices.double().cpu()
        for m in metrics
    ]
    return float(torch.cat(of_tasks).mean())


def _interval(
    errors: Errors, values: Sequence[torch.Tensor], mean: float, *, marks: bool
) -> Interval:
    error, freedom = errors.of([of_task.double() for of_task in values])
    if marks:
        return share_interval(mean, errors.documents if error == 0 else errors.n, error, freedom)
    return mean_interval(mean, error, freedom)
