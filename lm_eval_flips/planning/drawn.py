"""The drawn samples of one or several tasks as one stratified sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.measures.sampling.design import Design
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.planning.pairs import PlannedSamples

# Which of a plan's expected rates add up to a share's.
PARTS = {
    "all_flips": ("all_flips",),
    "flips": ("lost", "won"),
    "correct_to_incorrect_share": ("lost",),
    "incorrect_to_correct_share": ("won",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The drawn samples of some tasks as one stratified sample."""

    metrics: Sequence[PairedMetric]
    design: Design
    expected: dict[str, Tensor]

    @classmethod
    def of(cls, samples: PlannedSamples, metrics: Sequence[PairedMetric]) -> Drawn:
        """Put the strata of the tasks in one row."""
        tasks = [samples.plan.tasks[m.pairs.task] for m in metrics]
        device = metrics[0].baseline_value.device
        designs = [task.design() for task in tasks]
        starts = torch.tensor([0, *(len(own.sizes) for own in designs[:-1])]).cumsum(0)
        stratum = [own.stratum + start for own, start in zip(designs, starts, strict=True)]
        expected = [_expected(samples, metric) for metric in metrics]
        return cls(
            metrics=metrics,
            design=Design(
                sizes=torch.cat([own.sizes for own in designs]).to(device),
                drawn=torch.cat([own.drawn for own in designs]).to(device),
                stratum=torch.cat(stratum).to(device),
            ),
            expected={
                name: torch.cat([own[name] for own in expected]).to(device) for name in expected[0]
            },
        )

    def column(self, values: Sequence[Tensor]) -> Tensor:
        """The tasks' values in one row, each the sample's of its place."""
        return torch.cat(list(values)).double()


def _expected(samples: PlannedSamples, metric: PairedMetric) -> dict[str, Tensor]:
    """Expected rates of a task's strata, by what is counted; only their ratios matter.

    "fell" and "rose" are what makes the score lower and higher.
    """
    pairs = metric.pairs
    task = samples.plan.tasks[pairs.task]
    asked = (task.filter, task.metric) == (pairs.filter, metric.metric)
    if asked and samples.score(pairs.task, pairs.filter, metric.metric) is not None:
        found = {
            name: torch.stack([task.expected(part) for part in parts]).sum(0)
            for name, parts in PARTS.items()
        }
    else:
        # strata are by the answers of another metric, or to other prompts: all may be lost or won
        found = dict.fromkeys(PARTS, task.expected("all_flips"))
    lost, won = found["correct_to_incorrect_share"], found["incorrect_to_correct_share"]
    fell, rose = (lost, won) if metric.higher_is_better else (won, lost)
    return {**found, "fell": fell, "rose": rose}
