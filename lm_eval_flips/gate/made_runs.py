"""Runs that no model made, which no gate judges."""

from __future__ import annotations

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.made_from import made_from


def refuse_made_runs(comparison: Comparison) -> None:
    """Refuse runs that were made from others: nobody can ship such a model.

    Raises:
        FlipsError: the baseline's or a compressed run is one.
    """
    for run in (comparison.baseline.run, *(own.run for own in comparison.compressed)):
        if (made := made_from(run.results)) is not None:
            raise FlipsError(
                f"'{run.address}' is {made.sentence}: a gate judges models; leave it out, compare "
                "shows it"
            )
