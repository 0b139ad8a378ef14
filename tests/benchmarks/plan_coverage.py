"""Do a plan's intervals hold, and is a promised width kept, whatever was expected? A simulation.

    python tests/benchmarks/plan_coverage.py --times 1000
    python tests/benchmarks/plan_coverage.py --runs runs/baseline runs/int8 --budget 300 --times 500

2,961 documents in three tasks, whose leads are as SmolLM2's; answers change as noise of some size
brings it, evenly, or the other way round: where the baseline was surest. Plans are drawn by either
built-in prior, in one stage or in two, by the package's own code; counts how often the interval of
all flips holds what all documents show, and how often a promised half-width is kept. With runs, plans of their documents are drawn instead, and
what they show is the truth.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.measures.sampling.change_rates import expected_rate
from lm_eval_flips.measures.sampling.design import Design
from lm_eval_flips.measures.sampling.second_stage import FirstDraws
from lm_eval_flips.measures.sampling.stratified import stratified_share_interval
from lm_eval_flips.pairs.metric import paired_metric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.planning.population import Population, populations
from lm_eval_flips.planning.rates import prior_rates
from lm_eval_flips.planning.strata import DRAWS, FIRST, stratify

TASKS = ((1000, 1.7, 0.9), (975, 1.28, 0.5), (986, 0.72, 0.9))  # documents, median lead, its spread
FIRST_OF = 150  # documents of a first stage
SLACK = 1e-12


def documents(**fields: Any) -> Population:
    """A population without samples: of those a plan's strata ask only how many there are."""
    found = object.__new__(Population)
    for name, value in fields.items():
        object.__setattr__(found, name, value)
    return found


@lru_cache
def population() -> tuple[Population, ...]:
    """The documents of all tasks; of a population only what plans are made from."""
    source = torch.Generator().manual_seed(0)
    found = []
    for place, (n, median, spread) in enumerate(TASKS):
        lead = median * torch.exp(spread * torch.randn(n, generator=source, dtype=torch.float64))
        correct = torch.rand(n, generator=source) < torch.where(lead > median, 0.5, 0.3)
        found.append(
            documents(
                task=f"task {place}",
                filter="none",
                metric="acc",
                samples=range(n),
                margin=lead / 10,
                lead=lead,
                correct=correct,
                others=torch.full((n,), 3),
                fewshot_drawn=False,
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class World:
    """How answers change: by ``noise`` of this size, ``evenly``, or in ``reverse``, of this mean."""

    how: str
    size: float

    def rates(self, own: Population) -> Tensor:
        """Each document's chance."""
        assert own.lead is not None
        if self.how == "noise":
            return expected_rate(own.lead, self.size)
        if self.how == "evenly":
            return torch.full_like(own.lead, self.size)
        surest = own.lead.argsort().argsort().double() / len(own.lead)
        return self.size * 2 * surest

    @property
    def tasks(self) -> Sequence[Population]:
        """The documents."""
        return population()

    def changes(self, source: torch.Generator) -> list[Tensor]:
        """Whose answers change, anew each time."""
        rates = map(self.rates, self.tasks)
        return [torch.rand(len(own), generator=source) < own for own in rates]


@dataclass(frozen=True, eq=False)
class Real:
    """A compressed run's own changes, and the baseline's documents."""

    tasks: Sequence[Population]
    marks: list[Tensor]

    def changes(self, source: torch.Generator) -> list[Tensor]:
        """They are what they are."""
        return self.marks


WORLDS = [
    *(World("noise", size) for size in (0.1, 0.25, 0.8)),
    *(World("evenly", size) for size in (0.003, 0.01, 0.05)),
    *(World("reverse", size) for size in (0.02, 0.1)),
]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of so many plans: coverage, kept widths, and what they cost on average."""

    coverage: float
    kept: float
    bias: float
    half_width: float
    drawn: float
    plain: float


def tally(
    world: World | Real,
    prior: str,
    *,
    times: int,
    first_of: int = FIRST_OF,
    budget: int | None = None,
    width: float = 0.0,
    stages: int = 2,
    by_count: bool = False,
) -> Tally:
    """Draw so many plans.

    Args:
        world: how answers change.
        prior: the built-in rates.
        times: how often.
        first_of: how many of them in the first stage.
        budget: documents in all; None for as many as the width takes.
        width: the half-width that is promised.
        stages: one, by the prior alone, or two.
        by_count: spend the second stage where the first one's own counts were high: what is wrong.
    """
    tasks, source = world.tasks, torch.Generator().manual_seed(1)
    count = sum(map(len, tasks))
    begin = first_of if stages == 2 else (budget or 0)
    strata = stratify(
        tasks, prior_rates(tasks, prior), begin, draws=FIRST if stages == 2 else DRAWS
    )
    held, kept, bias, half, drawn, plain = 0, 0, 0.0, 0.0, 0, 0.0
    for _ in range(times):
        changed = world.changes(source)
        mixed = [rows[torch.randperm(len(rows), generator=source)] for rows in strata.rows]
        marks = [changed[task][rows] for task, rows in zip(strata.task, mixed, strict=True)]
        first = FirstDraws(
            sizes=strata.sizes,
            drawn=strata.drawn,
            changed=torch.stack(
                [own[:n].sum() for own, n in zip(marks, strata.drawn.tolist(), strict=True)]
            ).double(),
            expected=strata.rates,
        )
        expected, counts = strata.rates, strata.drawn
        if stages == 2:
            counts = first.allocated(budget or min(first.enough(width), count))
            expected = first.rates()
        if by_count:
            counts = torch.where(first.changed > 0, 3 * first.drawn, first.drawn)
            counts = counts.minimum(first.sizes)
        column = torch.cat([own[:n] for own, n in zip(marks, counts.tolist(), strict=True)])
        stratum = torch.repeat_interleave(torch.arange(len(counts)), counts)
        design = Design(sizes=strata.sizes, drawn=counts, stratum=stratum)
        low, high = stratified_share_interval(column, design, expected=expected)
        truth = float(torch.cat(changed).double().mean())
        held += low - SLACK <= truth <= high + SLACK
        kept += (high - low) / 2 <= width + SLACK
        bias += design.mean(column.double()) - truth
        half += (high - low) / 2
        drawn += int(counts.sum())
        plain += plain_samples(
            variance=max(truth * (1 - truth), 1e-9),
            half_width=(high - low) / 2,
            documents=count,
        )
    return Tally(
        coverage=held / times,
        kept=kept / times,
        bias=bias / times,
        half_width=half / times,
        drawn=drawn / times,
        plain=plain / times,
    )


def real_lines(paths: Sequence[Path], budget: int, first: int, times: int) -> Iterator[str]:
    """A line for each compressed run and prior: one stage, and two."""
    base = load_run(paths[0])
    tasks, _ = populations(base)
    yield f"{'run':<30}{'changed':>8}{'prior':>7}{'stages':>7}{'coverage':>9}{'± mean':>9}{'ratio':>7}"
    for run in map(load_run, paths[1:]):
        marks = []
        for own in tasks:
            theirs = read_samples(run.tasks[own.task])[own.filter]
            metric = paired_metric(pair(own.samples, theirs), own.metric)
            marks.append(cast("Tensor", metric.changed))
        share = float(torch.cat(marks).double().mean())
        for prior in ("8bit", "4bit"):
            for stages in (1, 2):
                found = tally(
                    Real(tasks, marks),
                    prior,
                    times=times,
                    first_of=first,
                    budget=budget,
                    stages=stages,
                )
                yield (
                    f"{Path(run.model).name[-29:]:<30}{share:>8.2%}{prior:>7}{stages:>7}"
                    f"{found.coverage:>9.1%}{found.half_width:>9.5f}{found.plain / budget:>7.2f}"
                )


def main() -> None:
    """Print a line for each world and prior: one stage, two, and two with a promised width."""
    parser = argparse.ArgumentParser(description="Coverage of plans, and kept promises.")
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--budget", type=int, default=600)
    parser.add_argument("--width", type=float, default=0.015)
    parser.add_argument("--first", type=int, default=FIRST_OF)
    parser.add_argument("--runs", type=Path, nargs="+", help="the baseline's, and compressed ones")
    asked = parser.parse_args()
    if asked.runs:
        for line in real_lines(asked.runs, asked.budget, asked.first, asked.times):
            print(line, flush=True)
        return
    print(
        f"{'world':<16}{'prior':<6}{'stages':<8}{'coverage':>9}{'± mean':>9}{'drawn':>7}"
        f"{'plain':>7}{'kept':>7}"
    )
    for world in WORLDS:
        for prior in ("8bit", "4bit"):
            for name, given in (
                ("1", {"budget": asked.budget, "stages": 1}),
                ("2", {"budget": asked.budget}),
                (f"2, ±{asked.width:g}", {"width": asked.width}),
            ):
                found = tally(world, prior, times=asked.times, **cast("Any", given))
                kept = f"{found.kept:>7.1%}" if "width" in given else ""
                print(
                    f"{world.how} {world.size:<9g}{prior:<6}{name:<9}{found.coverage:>8.1%}"
                    f"{found.half_width:>9.5f}{found.drawn:>7.0f}{found.plain:>7.0f}{kept}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
