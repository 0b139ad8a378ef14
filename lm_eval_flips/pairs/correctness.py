"""Which of a metric's values are right, and whether the log agrees with itself."""

from __future__ import annotations

import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.logs.metric_columns import PERPLEXITIES
from lm_eval_flips.pairs.answers import ANSWERING, as_compared
from lm_eval_flips.pairs.pairing import Pairs
from lm_eval_flips.pairs.readings import is_graded

TIE = 1e-6  # relative; closer scores may have been told apart by digits the log does not hold


def check_correctness(pairs: Pairs, metric: str) -> None:
    """Hold the logged correctness against the log-likelihoods, where the harness's rule is known.

    Raises:
        FlipsError: naming the run and the samples that contradict their own log-likelihoods.
    """
    if metric not in ANSWERING:
        return
    for name, side in (("baseline", pairs.baseline), ("compressed run", pairs.compressed)):
        scores = as_compared(pairs, side, metric)
        known = (pairs.gold.sum(-1) == 1) & ~side.metrics[metric].isnan()
        if metric != "acc_mutual_info":  # the only rule that takes no list of right choices
            known = pairs.gold.any(-1) & ~side.metrics[metric].isnan()
        if scores is None or not side.task.standard_scoring or not known.any():
            continue
        right = torch.where(pairs.gold, scores, -torch.inf).amax(-1)
        wrong = torch.where(pairs.gold, -torch.inf, scores).amax(-1)
        tie = TIE * wrong.abs()
        logged = side.metrics[metric] == 1
        bad = known & ((logged & (right < wrong - tie)) | (~logged & (right > wrong + tie)))
        if bad.any():
            docs = pairs.doc_ids[bad.cpu().numpy()].tolist()
            raise FlipsError(
                f"task '{pairs.task}', filter '{pairs.filter}': in the {name} the logged {metric} "
                f"contradicts the log-likelihoods and the target (doc {named(docs)}); the log was "
                "edited or scored by another rule: rerun this task"
            )


def shared_samples(pairs: Pairs, metric: str) -> Tensor:
    """Which samples have the metric in both runs, ``[samples]``."""
    left, right = pairs.baseline.metrics[metric], pairs.compressed.metrics[metric]
    return ~(left.isnan() | right.isnan())


def only_zeros_and_ones(pairs: Pairs, metric: str) -> bool:
    """Whether a metric that does not grade by its name is 0 or 1 in all samples of both runs."""
    if metric in PERPLEXITIES or is_graded(metric):
        return False
    kept = shared_samples(pairs, metric)
    left, right = pairs.baseline.metrics[metric], pairs.compressed.metrics[metric]
    plain = ((left == 0) | (left == 1)) & ((right == 0) | (right == 1))
    return bool((plain | ~kept).all())


def right_of(values: Tensor, from_: float | None, *, lower: bool) -> Tensor | None:
    """Which values are right, from one on, or down from it where lower ones are better."""
    if from_ is None:
        return None
    return values <= from_ if lower else values >= from_
