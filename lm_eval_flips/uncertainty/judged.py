"""What a judge says of two runs: the change of its mean score, wins and losses, its own noise."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.intervals import difference_interval
from lm_eval_flips.uncertainty.row_errors import RowErrors


def judged_numbers(
    metrics: Sequence[PairedMetric],
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Values and 95 % intervals by key, over the samples that were judged; nothing without any.

    Scores are paired: of samples of which both answers have one. Wins and losses are of samples
    that were judged in both orders.
    """
    judged = [metric for metric in metrics if metric.pairs.judged is not None]
    means: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    for of_part in (_scores(judged), _preferences(judged)):
        means |= of_part[0]
        intervals |= of_part[1]
    variances = [m.pairs.judged.variances for m in judged if m.pairs.judged is not None]
    if variances and len(of_all := torch.cat(variances)):
        means["judge_noise"] = sqrt(float(of_all.mean()))
    return means, intervals


def _scores(judged: Sequence[PairedMetric]) -> tuple[dict[str, float], dict[str, Interval]]:
    """Of whole answers, and of the turns of conversations."""
    means: dict[str, float] = {}
    intervals: dict[str, Interval] = {}

    def add_change(key: str, metrics: list[PairedMetric], changes: list[Tensor]) -> None:
        means[key] = float(torch.cat(changes).mean())
        intervals[key] = difference_interval(RowErrors(metrics).whole, changes, binary=False)

    if scored := _known(judged, "baseline", "compressed"):
        before, after = (torch.cat([values[side] for _, values in scored]) for side in (0, 1))
        means |= {
            "judged_samples": float(len(before)),
            "baseline_judge_score": float(before.mean()),
            "compressed_judge_score": float(after.mean()),
        }
        changes = [theirs - ours for _, (ours, theirs) in scored]
        add_change("judge_score_change", [metric for metric, _ in scored], changes)
    for name in ("first_turn", "later_turns"):
        if scored := _known(judged, name):
            changes = [sides[:, 1] - sides[:, 0] for _, (sides,) in scored]
            add_change(f"judge_{name}_change", [metric for metric, _ in scored], changes)
    return means, intervals


def _preferences(judged: Sequence[PairedMetric]) -> tuple[dict[str, float], dict[str, Interval]]:
    """Of pairs that were judged in both orders."""
    compared = _known(judged, "preference")
    if not compared:
        return {}, {}
    signs = [values[0].sign() for _, values in compared]
    whole = torch.cat(signs)
    errors = RowErrors([metric for metric, _ in compared]).whole
    means = {
        "judge_wins": float((whole > 0).sum()),
        "judge_losses": float((whole < 0).sum()),
        "judge_ties": float((whole == 0).sum()),
        "judge_preference": float(whole.mean()),
    }
    return means, {"judge_preference": difference_interval(errors, signs, binary=True)}


def _known(metrics: Sequence[PairedMetric], *names: str) -> list[tuple[PairedMetric, list[Tensor]]]:
    """The metrics at the samples that have all of these values, and the values."""
    found = []
    for metric in metrics:
        places = torch.from_numpy(metric.rows).to(metric.clusters.device)
        values = [getattr(metric.pairs.judged, name)[places] for name in names]
        missing = torch.column_stack(values).isnan().any(-1)
        rows = (~missing).nonzero()[:, 0]
        if len(rows):
            found.append((metric.at(rows), [own[rows] for own in values]))
    return found
