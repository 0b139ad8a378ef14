"""How likely each document's answer is to change, before the compressed model was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.compatibility import refuse_identical
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.measures.change_rates import (
    LOWEST,
    NOISES,
    expected_rate,
    smoothed_rates,
    unknown_rate,
)
from lm_eval_flips.paired_metric import PairedMetric, paired_metric
from lm_eval_flips.pairing import Pairs, pair
from lm_eval_flips.planning.population import Population
from lm_eval_flips.reading import read_samples
from lm_eval_flips.runs import Run

BINS = 10  # classes of each task, in which a pilot's changes are counted
FARTHEST = 1e6  # a lead of a single possible choice is inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """Chance of each document of a task that its answer changes, is lost, or is won, 0..1."""

    all_flips: Tensor
    lost: Tensor
    won: Tensor

    @property
    def spreads(self) -> Tensor:
        """Standard deviation of "its answer changes"."""
        return (self.all_flips * (1 - self.all_flips)).sqrt()


def prior_rates(known: Sequence[Population], prior: str) -> list[Rates]:
    """Built-in rates by the lead of the baseline's answer.

    Args:
        known: the tasks' documents.
        prior: "4bit" or "8bit".

    Raises:
        FlipsError: there is no prior of that name.
    """
    if prior not in NOISES:
        raise FlipsError(f"no prior '{prior}'; there are {', '.join(NOISES)}")
    return [_rates(own, _prior(own, prior)) for own in known]


def _prior(own: Population, prior: str) -> Tensor:
    if own.lead is None:
        return torch.full((len(own),), unknown_rate(NOISES[prior]), dtype=torch.float64)
    return expected_rate(own.lead, NOISES[prior])


def _rates(own: Population, all_flips: Tensor) -> Rates:
    chance = all_flips.double().clamp(LOWEST, 1 - LOWEST)
    return Rates(
        all_flips=chance,
        lost=torch.where(own.correct, chance, 0.0),
        # one of the answers that a wrong one may change to is right
        won=torch.where(own.correct, 0.0, chance / own.others),
    )


def pilot_rates(
    base: Run, pilot: Run, known: Sequence[Population], before: Sequence[Rates]
) -> list[Rates]:
    """Rates as another compressed run shows them, over some or all of the documents.

    Its changes are counted in each task's classes of leads, and smoothed towards what was expected
    before, so that few of them do not say too much.

    Args:
        base: the baseline's run.
        pilot: a compressed run.
        known: the tasks' documents.
        before: the rates expected without it.

    Raises:
        FlipsError: the pilot is the baseline, or shares no sample with it.
    """
    counted = [(own, _pilot_metric(base, pilot, own)) for own in known]
    shared = [metric.pairs for _, metric in counted if metric is not None]
    if not shared:
        raise FlipsError(f"the pilot '{pilot.path}' shares no task with the baseline")
    refuse_identical(base, pilot, shared, allowed=False)
    classes = [_classes(own) for own in known]
    sums = [
        _sums(own, labels, metric, rates)
        for (own, metric), labels, rates in zip(counted, classes, before, strict=True)
    ]
    smooth = smoothed_rates(
        changed=torch.cat([changed for changed, _, _ in sums]),
        drawn=torch.cat([drawn for _, drawn, _ in sums]),
        expected=torch.cat([expected for _, _, expected in sums]),
    )
    parts = torch.split(smooth, [len(changed) for changed, _, _ in sums])
    return [
        _rates(own, part[labels]) for own, part, labels in zip(known, parts, classes, strict=True)
    ]


def _pilot_metric(base: Run, pilot: Run, own: Population) -> PairedMetric | None:
    if own.task not in pilot.tasks:
        return None
    theirs = read_samples(pilot.tasks[own.task]).get(own.filter)
    if theirs is None or own.metric not in theirs.metrics:
        return None
    pairs: Pairs = pair(own.samples, theirs, on_mismatch="intersect", on_nan="exclude")
    return paired_metric(pairs, own.metric)


def _classes(own: Population) -> Tensor:
    """The class of each document: tenths of the task, in order of leads."""
    if own.lead is None:
        return torch.zeros(len(own), dtype=torch.int64)
    lead = own.lead.clamp(max=FARTHEST)
    ends = lead.quantile(torch.linspace(0, 1, BINS + 1, dtype=torch.float64)[1:-1])
    return torch.bucketize(lead, torch.from_numpy(np.unique(ends.numpy())), right=True)


def _sums(
    own: Population, labels: Tensor, metric: PairedMetric | None, before: Rates
) -> tuple[Tensor, Tensor, Tensor]:
    """Changed and all samples of the pilot by class, and the class's rate as expected before."""
    classes = int(labels.max()) + 1

    def total(values: Tensor, of: Tensor) -> Tensor:
        return torch.zeros(classes, dtype=torch.float64).index_add_(0, of, values.double())

    everyone = torch.ones(len(own))
    expected = total(before.all_flips, labels) / total(everyone, labels).clamp(min=1)
    if metric is None:
        empty = torch.zeros(classes, dtype=torch.float64)
        return empty, empty, expected
    place = torch.searchsorted(
        torch.from_numpy(own.samples.doc_id.copy()), torch.from_numpy(metric.doc_ids.copy())
    )
    moved = metric.flipped if metric.changed is None or own.margin is None else metric.changed
    if moved is None:
        raise FlipsError(f"task '{own.task}': the pilot's {own.metric} is not right or wrong")
    changed = total(moved, labels[place])
    return changed, total(torch.ones(len(place)), labels[place]), expected
