"""Strata -> a plan: seeded draws, and what is expected of them."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.planning.known import Known
from lm_eval_flips.planning.plan import (
    VERSION,
    MarginClass,
    Plan,
    PlannedBaseline,
    PlannedTask,
    Stratum,
)
from lm_eval_flips.planning.population import (
    Population,
    document_hashes,
    documents_digest,
    identity,
)
from lm_eval_flips.planning.rates import Rates
from lm_eval_flips.planning.strata import DRAWS, FIRST, Strata, stratify

CLASSES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # top margins, in the table of a plan


def draw_plan(before: Known, *, budget: int, seed: int, first: bool = False) -> Plan:
    """Draw so many documents, as the first of two stages where that is asked.

    Raises:
        FlipsError: as ``stratify``.
    """
    strata = stratify(before.tasks, before.rates, budget, draws=FIRST if first else DRAWS)
    draws = _draw(strata, seed)
    share, half = strata.all_flips, strata.half_width
    return Plan(
        version=VERSION,
        seed=seed,
        rates=before.source,
        baseline=PlannedBaseline(path=before.base.address, model=identity(before.base)),
        all_flips=share,
        half_width=half,
        plain_samples=int(
            plain_samples(variance=share * (1 - share), half_width=half, documents=before.documents)
        ),
        margins=list(_classes(before, strata, draws)),
        left_out=list(before.left_out),
        tasks={
            own.task: _task(own, before.rates[i], strata, draws, i)
            for i, own in enumerate(before.tasks)
        },
    )


def _draw(strata: Strata, seed: int) -> list[torch.Tensor]:
    """Rows of the drawn documents of each stratum, at random, sorted."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for rows, count in zip(strata.rows, strata.drawn.tolist(), strict=True):
        chosen = torch.randperm(len(rows), generator=generator)[:count]
        found.append(rows[chosen].sort().values)
    return found


def _task(
    own: Population, rates: Rates, strata: Strata, draws: list[torch.Tensor], task: int
) -> PlannedTask:
    hashes, doc_ids = document_hashes(own.samples), own.samples.doc_id
    found = []
    for h in (h for h, of in enumerate(strata.task) if of == task):
        rows, drawn = strata.rows[h], draws[h].tolist()
        margin = None if own.margin is None else own.margin[rows]
        found.append(
            Stratum(
                low=None if margin is None else float(margin.min()),
                high=None if margin is None else float(margin.max()),
                correct=strata.correct[h],
                changed=strata.changed[h],
                documents=len(rows),
                all_flips=float(rates.all_flips[rows].mean()),
                lost=float(rates.lost[rows].mean()),
                won=float(rates.won[rows].mean()),
                doc_ids=[int(doc_ids[row]) for row in drawn],
                hashes=[hashes[row] for row in drawn],
                rest=sorted({int(doc_ids[row]) for row in rows} - {int(doc_ids[r]) for r in drawn}),
            )
        )
    return PlannedTask(
        filter=own.filter,
        metric=own.metric,
        documents=len(own),
        digest=documents_digest(own.samples),
        fewshot_drawn=own.fewshot_drawn,
        strata=found,
    )


def _classes(before: Known, strata: Strata, draws: list[torch.Tensor]) -> Iterator[MarginClass]:
    """All documents by top margin, those without one last."""
    taken = [torch.zeros(len(own)).bool() for own in before.tasks]
    for task, rows in zip(strata.task, draws, strict=True):
        taken[task][rows] = True
    ends = torch.tensor(CLASSES[1:-1], dtype=torch.float64)
    label = torch.cat(
        [
            torch.full((len(own),), -1)
            if own.margin is None
            else torch.bucketize(own.margin, ends, right=True)
            for own in before.tasks
        ]
    )
    drawn, chance = torch.cat(taken), torch.cat([own.all_flips for own in before.rates])
    for i in [*range(len(CLASSES) - 1), -1]:
        of = label == i
        if of.any():
            yield MarginClass(
                low=None if i < 0 else CLASSES[i],
                high=None if i < 0 else CLASSES[i + 1],
                documents=int(of.sum()),
                drawn=int(drawn[of].sum()),
                all_flips=float(chance[of].mean()),
            )
