"""The second stage of a plan: what its first samples show says where the others are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from lm_eval_flips.comparison.compatibility import refuse_identical
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import Run
from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.measures.sampling.second_stage import FirstDraws
from lm_eval_flips.pairs.metric import PairedMetric, paired_metric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.planning.making import refuse_half_width, taking_everything
from lm_eval_flips.planning.pairs import PlannedSamples
from lm_eval_flips.planning.plan import Plan, PlannedTask, Stratum, load_plan
from lm_eval_flips.planning.population import document_hashes


def go_on(
    path: str | Path,
    base: Run,
    first: Run,
    *,
    budget: int | None = None,
    half_width: float | None = None,
    seed: int = 0,
) -> Plan:
    """Draw more documents of a plan, by Neyman's allocation from what its first ones show.

    The plan that comes out holds the first documents and the others: strata stay what they were,
    and how many more are drawn of one does not depend on what was seen in it alone. A half-width is
    kept in 95 % and more: it is by rates as high as the first samples allow.

    Args:
        path: the first plan.
        base: the baseline's run over all documents.
        first: the compressed model's run of the plan's documents.
        budget: how many documents in all, the first ones among them; None for as many as the
            half-width takes.
        half_width: half the width that the 95 % interval of all_flips may have.
        seed: of the draws; other documents than with the seed of the first plan.

    Raises:
        FlipsError: the plan cannot be read, tells not which documents are left, or does not belong
            to the runs; the budget holds no more than the first ones, or the half-width takes every
            document.
    """
    if (budget is None) == (half_width is None):
        raise FlipsError("give one of --budget and --half-width")
    plan = load_plan(path)
    if sum(len(own.rest) for task in plan.tasks.values() for own in task.strata) != (
        plan.documents - plan.budget
    ):
        raise FlipsError(
            f"the plan '{path}' does not say which documents are left: draw it anew with this "
            "version"
        )
    metrics = _metrics(plan, path, base, first)
    seen = _first_draws(plan, metrics)
    if budget is None:
        refuse_half_width(half_width or 0.0)
        budget = seen.enough(half_width or 0.0)
        if budget >= plan.documents:
            raise taking_everything(half_width or 0.0, plan.documents)
    if not plan.budget < budget <= plan.documents:
        raise FlipsError(
            f"a budget of {budget} samples: the plan holds {plan.budget} of {plan.documents} "
            "documents, which are counted in; give more than these, and no more than there are"
        )
    counts = seen.allocated(budget)
    rates = seen.rates()
    expected = float((seen.sizes.double() * rates).sum() / seen.sizes.sum())
    half = seen.half_width(counts, surely=half_width is not None)
    return msgspec.structs.replace(
        plan,
        seed=seed,
        rates=f"the first {plan.budget} samples of {first.address}",
        all_flips=expected,
        half_width=half,
        plain_samples=int(
            plain_samples(
                variance=expected * (1 - expected), half_width=half, documents=plan.documents
            )
        ),
        margins=[],
        tasks=_drawn(plan, base, metrics, counts.tolist(), rates.tolist(), seed),
    )


def _metrics(plan: Plan, path: str | Path, base: Run, run: Run) -> list[PairedMetric]:
    """The planned metric of every task, over the first documents."""
    samples, found = PlannedSamples(plan, path, base), []
    samples.tasks(list(plan.tasks), [base, run])
    for name, task in plan.tasks.items():
        theirs = read_samples(run.tasks[name])[task.filter]
        ours = samples.of(read_samples(base.tasks[name])[task.filter], theirs)
        found.append(paired_metric(pair(ours, theirs), task.metric))
    refuse_identical(base, run, [metric.pairs for metric in found], allowed=False)
    return found


def _first_draws(plan: Plan, metrics: Sequence[PairedMetric]) -> FirstDraws:
    designs = [task.design() for task in plan.tasks.values()]
    changed = [
        design.sums(_moved(task, metric).double())
        for task, design, metric in zip(plan.tasks.values(), designs, metrics, strict=True)
    ]
    return FirstDraws(
        sizes=torch.cat([design.sizes for design in designs]),
        drawn=torch.cat([design.drawn for design in designs]),
        changed=torch.cat(changed),
        expected=torch.cat([task.expected("all_flips") for task in plan.tasks.values()]),
    )


def _moved(task: PlannedTask, metric: PairedMetric) -> Tensor:
    """Whose answers changed: as they are counted where the log has choices, else the flips."""
    choices = metric.changed is not None and task.strata[0].low is not None
    moved = metric.changed if choices else metric.flipped
    if moved is None:
        raise FlipsError(f"task '{metric.pairs.task}': {metric.metric} is not right or wrong")
    return moved


def _drawn(
    plan: Plan,
    base: Run,
    metrics: Sequence[PairedMetric],
    counts: list[int],
    rates: list[float],
    seed: int,
) -> dict[str, PlannedTask]:
    """The tasks with more documents of each stratum, drawn at random from those that are left."""
    generator = torch.Generator().manual_seed(seed)
    tasks, h = {}, 0
    for name, task in plan.tasks.items():
        samples = read_samples(base.tasks[name])[task.filter]
        hashes = dict(zip(samples.doc_id.tolist(), document_hashes(samples), strict=True))
        strata = []
        for own in task.strata:
            more = counts[h] - len(own.doc_ids)
            mixed = torch.randperm(len(own.rest), generator=generator).tolist()
            chosen = {own.rest[place] for place in mixed[:more]}
            strata.append(_with(own, chosen, hashes, rates[h]))
            h += 1
        tasks[name] = msgspec.structs.replace(task, strata=strata)
    return tasks


def _with(own: Stratum, chosen: set[int], hashes: dict[int, str], rate: float) -> Stratum:
    docs = sorted({*own.doc_ids, *chosen})
    scale = rate / own.all_flips if own.all_flips else 1.0
    return msgspec.structs.replace(
        own,
        doc_ids=docs,
        hashes=[hashes[doc] for doc in docs],
        rest=[doc for doc in own.rest if doc not in chosen],
        all_flips=rate,
        lost=own.lost * scale,
        won=own.won * scale,
    )
