"""The columns of answers that were drawn several times."""

from __future__ import annotations

from lm_eval_flips.report.column import Column
from lm_eval_flips.report.column_families import aside


def drawn_columns() -> tuple[Column, ...]:
    """Flips of answers that were drawn several times: in tables only where they are."""
    return (
        Column(
            key="expected_flips",
            label="expected flips",
            meaning="chance that one draw of each model differ in correctness, mean over documents",
            leaves=48,
            tone="movement",
        ),
        Column(
            key="seed_floor",
            label="between seeds",
            meaning="the same of two draws of the baseline",
            leaves=42,
        ),
        Column(
            key="flips_beyond_seeds",
            label="beyond seeds",
            meaning="expected flips less those among draws of one model: the mean squared change "
            "of a document's success rate",
            leaves=47,
            change=True,
        ),
        aside(
            "expected_correct_to_incorrect_share",
            "expected C→I",
            "chance that a draw of the baseline is right and one of the compressed model wrong",
        ),
        aside(
            "expected_incorrect_to_correct_share",
            "expected I→C",
            "the chance of the other way round",
        ),
        aside(
            "compressed_seed_floor",
            "between seeds, compressed",
            "of two draws of the compressed model",
        ),
    )
