"""What is known before a compressed model is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lm_eval_flips.logs.runs import Run
from lm_eval_flips.planning.population import Population, populations, refuse_no_margins
from lm_eval_flips.planning.rates import Rates, pilot_rates, prior_rates

BUILT_IN = "built-in rates"  # of the source of a plan's rates, where no pilot tells


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Known:
    """A baseline's documents, and how likely each answer is to change."""

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
    rates, source = prior_rates(known, prior), f"{BUILT_IN}, {prior}"
    if pilot is not None:
        rates, source = pilot_rates(base, pilot, known, rates), f"pilot {pilot.path}"
    return Known(base=base, tasks=known, rates=rates, source=source, left_out=left_out)
