"""One run's samples of a task, and the findings about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lm_eval_flips.errors import named
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.measures.plausibility import grid, own_choices, tied, tied_at_the_top
from lm_eval_flips.pairs.findings import Finding

SOME, MANY = 5, 20  # samples that it takes to tell a fault from chance
ENOUGH = 0.2  # share of the samples from which on a fault is the run's, not a sample's


class Scores:
    """A run's log-likelihoods, and what is looked at more than once of them.

    Args:
        table: nats ``[n, choices]``, -inf beyond a sample's own choices.
        choices: each sample's number of choices.
    """

    def __init__(self, table: Tensor, choices: Tensor) -> None:
        self.table, self.choices = table, choices

    @cached_property
    def _full(self) -> bool:
        """Whether every sample has as many choices as the table is wide."""
        return bool((self.choices == self.table.shape[1]).all())

    @property
    def own(self) -> Tensor:
        """The samples' own log-likelihoods, one after the other."""
        if self._full:
            return self.table.reshape(-1)  # no copy
        return self.table[own_choices(self.choices, self.table.shape[1])]

    @cached_property
    def grid(self) -> float:
        """The step of which all of them are multiples; nan where there is none."""
        return grid(self.own)

    @cached_property
    def tied(self) -> Tensor:
        """Samples of two or more choices that are all alike."""
        return tied(self.table, self.choices)

    @cached_property
    def tied_share(self) -> float:
        """Their share."""
        return float(self.tied.double().mean())

    @cached_property
    def tied_at_the_top(self) -> Tensor:
        """Samples whose best choice has an equal."""
        return tied_at_the_top(self.table, self.choices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One run's samples, under the name by which findings speak of it."""

    samples: Samples
    run: str

    @property
    def scores(self) -> Scores:
        """Their log-likelihoods."""
        known = self.samples.known
        if "scores" not in known:
            tables = (self.samples.loglikelihoods, self.samples.choices)
            known["scores"] = Scores(*map(torch.from_numpy, tables))
        scores: Scores = known["scores"]
        return scores

    def finding(
        self, code: str, text: str, way_out: str, *, impossible: bool, blocks: bool | None = None
    ) -> Finding:
        """A finding about these samples; it keeps a gate from passing if it is impossible."""
        return Finding(
            code=code,
            task=self.samples.task.name,
            filter=self.samples.filter,
            text=text,
            way_out=way_out,
            impossible=impossible,
            keeps_from_passing=impossible if blocks is None else blocks,
        )

    def docs(self, which: Tensor) -> str:
        """The first samples of a mask, by doc_id."""
        return f"doc {named(self.samples.doc_id[which.numpy()].tolist())}"
