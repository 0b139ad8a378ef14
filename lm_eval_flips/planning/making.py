"""A baseline's run -> a plan: strata, budget, seeded draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isnan

import torch

from lm_eval_flips.errors import FlipsError
from lm_eval_flips.measures.allocation import plain_samples
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
    populations,
    refuse_no_margins,
)
from lm_eval_flips.planning.rates import Rates, pilot_rates, prior_rates
from lm_eval_flips.planning.strata import Strata, minimum, stratify
from lm_eval_flips.runs import Run

CLASSES = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # top margins, in the table of a plan


def make_plan(
    base: Run,
    *,
    budget: int | None = None,
    half_width: float | None = None,
    tasks: str = "*",
    pilot: Run | None = None,
    prior: str = "4bit",
    seed: int = 0,
) -> Plan:
    """Choose the documents on which a compressed model is evaluated, instead of on all.

    Args:
        base: the baseline's run over all documents.
        budget: how many to draw in all; None to draw as many as the half-width takes.
        half_width: half the width that the 95 % interval of all_flips may have, 0..0.5.
        tasks: glob of the task names, or a group.
        pilot: a compressed run, of this model or one like it, from which rates of changes are
            taken; None for built-in rates.
        prior: which built-in rates: "4bit" or "8bit".
        seed: of the draws.

    Raises:
        FlipsError: see ``populations``, ``pilot_rates`` and ``stratify``; not one of budget and
            half-width is given, or the half-width is out of range or takes every document.

    Example:
        >>> plan = make_plan(load_run("runs/baseline"), budget=600)  # doctest: +SKIP
        >>> plan.plain_samples  # doctest: +SKIP
        1371
    """
    if (budget is None) == (half_width is None):
        raise FlipsError("give one of --budget and --half-width")
    before = know(base, tasks=tasks, pilot=pilot, prior=prior)
    if budget is None:
        budget = enough(before, half_width or 0.0)
    return draw_plan(before, budget=budget, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """What is known before a compressed model is evaluated: documents, and rates of changes."""

    base: Run
    tasks: Sequence[Population]
    rates: Sequence[Rates]
    source: str
    left_out: Sequence[str]

    @property
    def documents(self) -> int:
        """Number of documents of all tasks."""
        return sum(len(own) for own in self.tasks)


def know(base: Run, *, tasks: str, pilot: Run | None, prior: str) -> Known:
    """Read the baseline's run, and the pilot's; arguments as of ``make_plan``.

    Raises:
        FlipsError: as ``make_plan``.
    """
    known, left_out = populations(base, tasks)
    refuse_no_margins(known)
    rates, source = prior_rates(known, prior), f"built-in rates, {prior}"
    if pilot is not None:
        rates, source = pilot_rates(base, pilot, known, rates), f"pilot {pilot.path}"
    return Known(base=base, tasks=known, rates=rates, source=source, left_out=left_out)


def draw_plan(before: Known, *, budget: int, seed: int) -> Plan:
    """Draw so many documents.

    Raises:
        FlipsError: as ``stratify``.
    """
    strata = stratify(before.tasks, before.rates, budget)
    draws = _draw(strata, seed)
    share, half = strata.all_flips, _half_width(strata)
    return Plan(
        version=VERSION,
        seed=seed,
        rates=before.source,
        baseline=PlannedBaseline(path=str(before.base.path), model=identity(before.base)),
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


def _half_width(strata: Strata) -> float:
    low, high = strata.interval()
    return (high - low) / 2


def enough(before: Known, half_width: float) -> int:
    """The fewest draws whose interval of all_flips is expected to be as narrow, by bisection.

    Raises:
        FlipsError: the half-width is out of range, or takes every document.
    """
    if isnan(half_width) or not 0 < half_width < 0.5:
        raise FlipsError(f"the half-width {half_width} is out of range; give a share such as 0.01")
    low, high = minimum(before.tasks) - 1, before.documents
    while high - low > 1:
        middle = (low + high) // 2
        narrow = _half_width(stratify(before.tasks, before.rates, middle)) <= half_width
        low, high = (low, middle) if narrow else (middle, high)
    if high == before.documents:
        raise FlipsError(
            f"a half-width of {half_width:g} takes every one of the {high} documents: evaluate "
            "them all, without --samples"
        )
    return high


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
                documents=len(rows),
                all_flips=float(rates.all_flips[rows].mean()),
                lost=float(rates.lost[rows].mean()),
                won=float(rates.won[rows].mean()),
                doc_ids=[int(doc_ids[row]) for row in drawn],
                hashes=[hashes[row] for row in drawn],
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
