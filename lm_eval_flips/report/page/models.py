"""The compressed models of a comparison beside each other: where each stands, and its signs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

from lm_eval_flips.comparison.model_sizes import model_sizes
from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.comparison.standing import row_of, standings_of
from lm_eval_flips.measures.significance import holm
from lm_eval_flips.report.charts.shown_runs import ShownRun
from lm_eval_flips.report.overview import ShownModel
from lm_eval_flips.report.text.signs import Sign, signs
from lm_eval_flips.report.text.summary import judgements


def shown_models(
    comparison: Comparison, shown: Sequence[ShownRun], sizes: Mapping[str, int] | None
) -> list[ShownModel]:
    """What is said of each run beside the others, in the order of ``shown``."""
    found = standings_of(comparison, sizes=model_sizes(comparison, given=sizes))
    verdicts = judgements(comparison)
    return [
        ShownModel(
            name=run.name,
            look=run.look,
            standing=found.each[run.place],
            verdict=verdicts[run.place],
            distance=row_of(run.run).numbers[found.distance] if found.distance else None,
        )
        for run in shown
    ]


def model_signs(comparison: Comparison, shown: Sequence[ShownRun]) -> list[list[Sign]]:
    """The signs of each run, in the order of ``shown``."""
    rows = [row_of(run) for run in comparison.compressed]
    verdicts = judgements(comparison)
    adjusted = holm([row.p_value if isinstance(row, Row) else nan for row in rows])
    return [
        list(
            signs(
                rows[run.place],
                verdicts[run.place],
                adjusted=adjusted[run.place],
                warnings=run.run.warnings,
            )
        )
        for run in shown
    ]
