"""One run's samples of a task, and the findings about them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lm_eval_flips.errors import named
from lm_eval_flips.logs.samples import Samples
from lm_eval_flips.pairs.findings import Finding

SOME, MANY = 5, 20  # samples that it takes to tell a fault from chance
ENOUGH = 0.2  # share of the samples from which on a fault is the run's, not a sample's


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """One run's samples, under the name by which findings speak of it."""

    samples: Samples
    run: str

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
