"""Pairs of which a side was drawn several times: what is known of each sample then.

Values are means over the draws; what only two single answers have, as a distance or whether the
text is the same, there is not: one draw is never held against one draw.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.measures.several_draws import DrawnFlips, drawn_flips
from lm_eval_flips.pairs.correctness import shared_samples
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.readings import is_graded
from lm_eval_flips.pairs.sides import Side

WHOLE = 1e-6  # a count of repeats, from a rate that was logged


def is_drawn(pairs: Pairs, metric: str) -> bool:
    """Whether a side holds several draws of a metric: of several runs, or repeats of one."""
    return any(_draws(side, metric).shape[1] > 1 for side in (pairs.baseline, pairs.compressed))


def drawn_metric(pairs: Pairs, metric: str) -> PairedMetric:
    """A metric of pairs that were drawn several times: means over the draws, and no distances.

    Raises:
        FlipsError: the metric is a perplexity, which nothing draws.
    """
    if metric in PERPLEXITIES:
        raise FlipsError(
            f"task '{pairs.task}': {metric} is a perplexity, of which nothing is drawn; compare "
            "one run of each model, or choose tasks with --tasks"
        )
    rows = shared_samples(pairs, metric).nonzero()[:, 0]
    return PairedMetric(
        pairs=pairs,
        metric=metric,
        rows=rows.cpu().numpy(),
        baseline_value=pairs.baseline.metrics[metric][rows],
        compressed_value=pairs.compressed.metrics[metric][rows],
        baseline_correct=None,
        compressed_correct=None,
        baseline_answer=None,
        compressed_answer=None,
        changed=None,
        divergence=None,
        margin=None,
        margin_change=None,
        units=None,
        clusters=pairs.clusters[rows],
        tokens=None,
        noise=None,
    )


def flips_of_draws(metric: PairedMetric) -> DrawnFlips | None:
    """The chances that draws flip; None where answers are not right or wrong, or drawn once."""
    pairs, name = metric.pairs, metric.metric
    if name not in pairs.baseline.metrics or not is_drawn(pairs, name) or is_graded(name):
        return None
    rows = torch.from_numpy(metric.rows).to(metric.clusters.device)
    sides = [_draws(side, name)[rows] for side in (pairs.baseline, pairs.compressed)]
    if not all(bool(((own == 0) | (own == 1)).all()) for own in sides):
        return None
    if not metric.higher_is_better:
        sides = [1 - own for own in sides]
    ours, theirs = sides
    independent = torch.tensor(
        [
            [not one or one != other for other in _seeds(pairs.compressed, theirs.shape[1])]
            for one in _seeds(pairs.baseline, ours.shape[1])
        ],
        device=ours.device,
    )
    if not independent.any():  # repeats of two runs of one seed: other places are other numbers
        independent = ~independent
    return drawn_flips(baseline=ours, compressed=theirs, independent=independent)


def _draws(side: Side, metric: str) -> Tensor:
    """Every draw's value, ``[samples, draws]``."""
    own = side.draws.get(metric)
    if own is None:
        own = side.metrics[metric][:, None]
    repeats = side.task.repeats
    if repeats == 1:
        return own
    counts = own * repeats
    known = counts[~counts.isnan()]
    rates = bool(((known - known.round()).abs() < WHOLE).all()) and bool(
        ((known >= 0) & (known <= repeats)).all()
    )
    if not rates or bool(((own == 0) | (own == 1) | own.isnan()).all()):
        return own
    # a rate of so many repeats: which of them were right does not matter
    places = torch.arange(repeats, device=own.device)
    return (places < counts.round()[..., None]).double().flatten(1)


def _seeds(side: Side, draws: int) -> list[str]:
    """What drew each draw; "" where that is not known, and so shared with nothing."""
    runs = side.seeds or ("",)
    return [seed for seed in runs for _ in range(draws // len(runs))]
