"""Documents and their rates -> strata, draws, and what an interval would be worth then.

Within a task, documents are put in order of their top margins, in units of noise, and cut into
strata of equal expected spread, so that each is drawn about equally often: many narrow strata where
answers change, few wide ones where they do not. Right and wrong answers are kept apart where there
are draws for it, since only the former can be lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.measures.sampling.allocation import least, neyman
from lm_eval_flips.measures.sampling.stratified import share_interval
from lm_eval_flips.planning.population import Population
from lm_eval_flips.planning.rates import Rates

DRAWS = 6.0  # about as many of each stratum
FIRST = 2.0  # of the first of two stages: strata stay, and are drawn from again
APART = 12.0  # draws of a task from which right and wrong answers are kept apart


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Strata:
    """Every task's strata and how many of each are drawn, in one row.

    ``task`` is each stratum's task by number, ``rows`` its documents' rows in that task;
    ``correct`` what the baseline answered there and ``changed`` what the pilot did, None for both.
    """

    task: list[int]
    rows: list[Tensor]
    correct: list[bool | None]
    changed: list[bool | None]
    drawn: Tensor
    rates: Tensor

    @property
    def sizes(self) -> Tensor:
        """Documents of each stratum."""
        return torch.tensor([len(rows) for rows in self.rows])

    @property
    def all_flips(self) -> float:
        """Expected share of all documents whose answer changes."""
        sizes = self.sizes.double()
        return float((sizes * self.rates).sum() / sizes.sum())

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval of all_flips, if rates are as expected."""
        low, high = share_interval(
            self.all_flips, sizes=self.sizes, drawn=self.drawn, rates=self.rates
        )
        return (high - low) / 2


def minimum(known: Sequence[Population]) -> int:
    """The fewest draws: two of each task, for one alone shows no spread."""
    return int(least(torch.tensor([len(own) for own in known])).sum())


def stratify(
    known: Sequence[Population], rates: Sequence[Rates], budget: int, *, draws: float = DRAWS
) -> Strata:
    """Cut all tasks into strata of about so many draws, and share the budget among them.

    Raises:
        FlipsError: the budget is too small, or larger than all documents.
    """
    documents, fewest = sum(len(own) for own in known), minimum(known)
    if budget > documents:
        raise FlipsError(
            f"a budget of {budget} samples is more than the {documents} documents there are"
        )
    if budget < fewest:
        raise FlipsError(
            f"a budget of {budget} samples is too small: {len(known)} tasks need two each, "
            f"{fewest} in all; raise --budget or choose tasks with --tasks"
        )
    while True:
        found = list(_cut(known, rates, budget, draws))
        sizes = torch.tensor([len(part.rows) for part in found])
        if int(least(sizes).sum()) <= budget:
            break
        draws *= 2
    means = torch.stack([rates[part.task].all_flips[part.rows].mean() for part in found])
    drawn = neyman(sizes=sizes, spreads=(means * (1 - means)).sqrt(), n=budget)
    return Strata(
        task=[part.task for part in found],
        rows=[part.rows for part in found],
        correct=[part.correct for part in found],
        changed=[part.changed for part in found],
        drawn=drawn,
        rates=means,
    )


class _Part(NamedTuple):
    """Rows of one task that are alike in what is known of them."""

    task: int
    rows: Tensor
    correct: bool | None
    changed: bool | None


def _cut(
    known: Sequence[Population], rates: Sequence[Rates], budget: int, draws: float
) -> Iterator[_Part]:
    """All tasks' strata, with about so many draws each."""
    total = sum(float(own.spreads.sum()) for own in rates)
    for task, (own, expected) in enumerate(zip(known, rates, strict=True)):
        share = budget * expected.spreads / total
        apart = float(share.sum()) >= max(APART, 2 * draws) and own.lead is not None
        for part in _apart(task, own, expected) if apart else [_whole(task, own)]:
            lead = None if own.lead is None else own.lead[part.rows]
            count = max(1, round(float(share[part.rows].sum()) / draws))
            for rows in _even(lead, share[part.rows], count):
                yield part._replace(rows=part.rows[rows])


def _whole(task: int, own: Population) -> _Part:
    return _Part(task, torch.arange(len(own)), None, None)


def _apart(task: int, own: Population, expected: Rates) -> Iterator[_Part]:
    """By the baseline's correctness, and by what the pilot changed."""
    by_pilot = bool(expected.changed.any())
    for correct in (True, False):
        of = own.correct == correct
        if not by_pilot:
            parts = [_Part(task, of.nonzero()[:, 0], correct, None)]
        else:
            parts = [
                _Part(task, (of & (expected.changed == changed)).nonzero()[:, 0], correct, changed)
                for changed in (True, False)
            ]
        yield from (part for part in parts if len(part.rows))


def _even(lead: Tensor | None, shares: Tensor, count: int) -> Iterator[Tensor]:
    """Rows in order of their leads, cut where shares add up alike; equal leads stay together."""
    if lead is None or count == 1:
        yield torch.arange(len(shares))
        return
    values, places = np.unique(lead.cpu().numpy(), return_inverse=True)
    place = torch.from_numpy(places)
    mass = torch.zeros(len(values), dtype=torch.float64).index_add_(0, place, shares.double())
    middle = (mass.cumsum(0) - mass / 2) / mass.sum()
    labels = (middle * count).long().clamp(max=count - 1)[place]
    for label in sorted(set(labels.tolist())):
        yield (labels == label).nonzero()[:, 0]
