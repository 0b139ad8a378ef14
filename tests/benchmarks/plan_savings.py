"""How many samples a plan saves, and whether its intervals hold, on real runs.

    python tests/benchmarks/plan_savings.py runs/baseline runs/int8 --budget 600 --prior 8bit

Takes full runs as the truth. Draws plans of one budget with other seeds, takes each plan's samples
out of the compressed run, estimates from them by the package's own code, and counts how often the
95 % interval holds what the full run shows. "plain" is how many samples plain random sampling needs
for an interval as wide as the mean one, by the true variance (Cochran 1977, section 4.4).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lm_eval_flips.comparison.planned import PlannedRow
from lm_eval_flips.logs.reading import read_samples
from lm_eval_flips.logs.runs import load_run
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.sampling.allocation import plain_samples
from lm_eval_flips.pairs.indicators import indicators, share_key
from lm_eval_flips.pairs.metric import PairedMetric, paired_metric
from lm_eval_flips.pairs.pairing import pair
from lm_eval_flips.planning.drawing import draw_plan
from lm_eval_flips.planning.known import Known, know
from lm_eval_flips.planning.pairs import PlannedSamples
from lm_eval_flips.planning.rows import PlannedRows

NAMES = ("all_flips", "flips", "score_change", "correct_to_incorrect_share", "choice_kl")
SLACK = 1e-12  # of a drawn whole, whose interval has no width


@dataclass(frozen=True)
class Full:
    """Both full runs of the planned tasks."""

    known: Known
    compressed: Mapping[str, Samples]

    def metrics(self) -> list[PairedMetric]:
        """The planned metric of every task, over all documents."""
        return [
            paired_metric(pair(own.samples, self.compressed[own.task]), own.metric)
            for own in self.known.tasks
        ]

    def drawn(self, *, budget: int, seed: int) -> PlannedRow:
        """What one plan's samples show."""
        plan = draw_plan(self.known, budget=budget, seed=seed)
        samples = PlannedSamples(plan, "plan", self.known.base)
        metrics = []
        for own in self.known.tasks:
            theirs = self.compressed[own.task].only(np.array(plan.tasks[own.task].doc_ids))
            ours = samples.of(own.samples, theirs)
            metrics.append(paired_metric(pair(ours, theirs), own.metric))
        return PlannedRows(samples=samples).row(metrics, name="pooled")


def truths(metrics: list[PairedMetric]) -> dict[str, torch.Tensor]:
    """Every document's value of each number."""
    columns = [indicators(m) for m in metrics]
    found = {
        share_key(name): torch.cat([own[name] for own in columns]).double()
        for name in ("all_flips", "flips", "correct_to_incorrect")
    }
    change = [m.compressed_value - m.baseline_value for m in metrics]
    kls = [m.divergence.kl for m in metrics if m.divergence is not None]
    return {**found, "score_change": torch.cat(change), "choice_kl": torch.cat(kls)}


def lines(full: Full, *, budget: int, plans: int) -> Iterator[str]:
    """A line for each number."""
    values = truths(full.metrics())
    rows = [full.drawn(budget=budget, seed=seed) for seed in range(plans)]
    documents = full.known.documents
    yield (
        f"{'':<22}{'truth':>10}{'mean':>10}{'coverage':>10}{'half-width':>12}{'plain':>7}{'ratio':>7}"
    )
    for name in NAMES:
        truth, variance = float(values[name].mean()), float(values[name].var())
        found = [row.estimates[name] for row in rows]
        held = [e.interval.low - SLACK <= truth <= e.interval.high + SLACK for e in found]
        half = float(np.mean([(e.interval.high - e.interval.low) / 2 for e in found]))
        plain = plain_samples(variance=variance, half_width=half, documents=documents)
        yield (
            f"{name:<22}{truth:>10.5f}{np.mean([e.value for e in found]):>10.5f}"
            f"{np.mean(held):>10.1%}{half:>12.5f}{plain:>7.0f}{plain / budget:>7.2f}"
        )


def main() -> None:
    """Print the table for one baseline, one compressed run and one budget."""
    parser = argparse.ArgumentParser(description="Coverage and savings of plans on full runs.")
    parser.add_argument("baseline", type=Path)
    parser.add_argument("compressed", type=Path)
    parser.add_argument("--budget", type=int, nargs="+", default=[600])
    parser.add_argument("--prior", default="4bit")
    parser.add_argument("--pilot", type=Path, help="a compressed run to take the rates from")
    parser.add_argument("--tasks", default="*")
    parser.add_argument("--plans", type=int, default=200)
    arguments = parser.parse_args()
    pilot = None if arguments.pilot is None else load_run(arguments.pilot)
    base, run = load_run(arguments.baseline), load_run(arguments.compressed)
    known = know(base, tasks=arguments.tasks, pilot=pilot, prior=arguments.prior)
    compressed = {own.task: read_samples(run.tasks[own.task])[own.filter] for own in known.tasks}
    full = Full(known, compressed)
    for budget in arguments.budget:
        print(f"{run.model}: {budget} of {known.documents} documents, {known.source}")
        for line in lines(full, budget=budget, plans=arguments.plans):
            print(line)


if __name__ == "__main__":
    main()
