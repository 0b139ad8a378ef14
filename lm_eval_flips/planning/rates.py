"""How likely each document's answer is to change, before the compressed model was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.comparison.compatibility import refuse_identical
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.measures.sampling.change_rates import (
    LOWEST,
    NOISES,
    expected_rate,
    smoothed_rates,
    unknown_rate,
)
from lm_eval_flips.pairs.metric import PairedMetric, paired_metric
from lm_eval_flips.pairs.pairing import Pairs, pair
from lm_eval_flips.planning.population import Population

CORRELATION = 0.3  # of the changes of two compressed runs; between kinds of 4 bits 0.2 to 0.6
BINS = 10  # classes of each task, in which a pilot's changes are counted
FARTHEST = 1e6  # a lead of a single possible choice is inf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rates:
    """Chance of each document of a task that its answer changes, is lost, or is won, 0..1.

    ``changed`` marks those whose answer the pilot changed, none without one.
    """

    all_flips: Tensor
    lost: Tensor
    won: Tensor
    changed: Tensor

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


def _rates(own: Population, all_flips: Tensor, changed: Tensor | None = None) -> Rates:
    chance = all_flips.double().clamp(LOWEST, 1 - LOWEST)
    return Rates(
        changed=torch.zeros(len(own)).bool() if changed is None else changed,
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
    before, so that few of them do not say too much. A document whose answer the pilot changed is
    then the likelier to change again, and the others are less so.

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
        _alike(own, part[labels], metric)
        for (own, metric), part, labels in zip(counted, parts, classes, strict=True)
    ]


def _alike(own: Population, chance: Tensor, pilot: PairedMetric | None) -> Rates:
    """Rates of two compressed runs whose changes are correlated, with the same mean."""
    changed = torch.zeros(len(own)).bool()
    if pilot is None:
        return _rates(own, chance)
    place = _places(own, pilot)
    changed[place] = _moved(own, pilot)
    chance = chance.clone()
    chance[place] *= 1 - CORRELATION
    chance[changed] += CORRELATION
    return _rates(own, chance, changed)


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
    moved, of = _moved(own, metric), labels[_places(own, metric)]
    return total(moved, of), total(torch.ones(len(of)), of), expected


def _places(own: Population, metric: PairedMetric) -> Tensor:
    """Rows of the documents that the pilot holds."""
    every, held = (torch.from_numpy(ids.copy()) for ids in (own.samples.doc_id, metric.doc_ids))
    return torch.searchsorted(every, held)


def _moved(own: Population, metric: PairedMetric) -> Tensor:
    """Whose answers the pilot changed."""
    moved = metric.flipped if metric.changed is None or own.margin is None else metric.changed
    if moved is None:
        raise FlipsError(f"task '{own.task}': the pilot's {own.metric} is not right or wrong")
    return moved
