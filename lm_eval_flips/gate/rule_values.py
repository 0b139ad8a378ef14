"""What each rule asks of a sample: bounded numbers whose mean over the questions is judged."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError, named
from lm_eval_flips.gate.thresholds import EQUIVALENCE, LOSS
from lm_eval_flips.measures.course import Bounded
from lm_eval_flips.pairs.metric import PairedMetric

CUT = 1.0  # nats: where a sample's distance is cut, as a mean without bound has no such interval
WIDER = 10  # times the threshold, where that is more
CORRECTNESS = ("max_flips", "max_all_flips", "max_negative_flip_rate")
DISTANCES = ("max_choice_kl", "max_token_kl")
RULES = (*CORRECTNESS, LOSS, EQUIVALENCE, *DISTANCES)


def rule_values(metric: PairedMetric, rule: str, threshold: float) -> Bounded | None:
    """Each sample's number; None where a distance was not measured, as of a task without choices.

    Raises:
        FlipsError: the rule is no mean of bounded numbers, or the metric has none of them.
    """
    refuse_rules([rule])
    task = metric.pairs.task
    if rule in DISTANCES:
        distances = _distances(metric, rule)
        if distances is None:
            return None
        cut = max(CUT, WIDER * threshold)
        return Bounded(
            values=distances.double().clamp(min=0.0, max=cut),
            asked=~distances.isnan(),
            low=0.0,
            high=cut,
            cut=cut,
        )
    before, after = metric.baseline_correct, metric.compressed_correct
    if before is None or after is None:
        raise FlipsError(
            f"task '{task}': {metric.metric} is neither right nor wrong; {rule} can be judged "
            "while samples are drawn only with --right-from"
        )
    everything = torch.ones_like(before)
    if rule in (LOSS, EQUIVALENCE):
        return Bounded(
            values=before.double() - after.double(), asked=everything, low=-1.0, high=1.0
        )
    if rule == "max_negative_flip_rate":
        return Bounded(values=(~after).double(), asked=before, low=0.0, high=1.0)
    moved = before != after
    if rule == "max_all_flips":
        if metric.changed is None or metric.baseline_answer is None:
            raise FlipsError(f"task '{task}' has no choices: max_all_flips has no numbers there")
        moved = moved | (~before & ~after & metric.changed)
    return Bounded(values=moved.double(), asked=everything, low=0.0, high=1.0)


def refuse_rules(rules: Iterable[str]) -> None:
    """Refuse rules that speak of no mean of bounded numbers.

    Raises:
        FlipsError: naming the first.
    """
    for rule in rules:
        if rule not in RULES:
            raise FlipsError(
                f"'{rule}' is no mean over samples and cannot be judged while they are drawn; "
                f"there are {named(list(RULES), shown=len(RULES))}"
            )


def _distances(metric: PairedMetric, rule: str) -> Tensor | None:
    if rule == "max_token_kl":
        return metric.token_kl
    return None if metric.divergence is None else metric.divergence.kl
