"""What a reader must know of the runs beside their numbers, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.errors import named


def warned(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """Every warning once, with the models it is about; those of all models without their names."""
    about: dict[str, list[str]] = {}
    for name, run in zip(names, comparison.compressed, strict=True):
        for line in _of_run(comparison, run):
            about.setdefault(line, []).append(name)
    several = len(names) > 1
    return [
        line if not several or len(models) == len(names) else f"{named(models, shown=3)}: {line}"
        for line, models in about.items()
    ]


def _of_run(comparison: Comparison, run: RunComparison) -> Iterator[str]:
    differing = [d for d in comparison.settings_that_differ if d.run == run.path]
    if differing:
        listing = ", ".join(
            f"{d.setting} {d.baseline!s:.40} → {d.compressed!s:.40}" for d in differing
        )
        yield f"settings that differ: {listing}"
    for dropped in run.dropped:
        why = "; ".join(
            f"{reason}: doc {named(list(docs))}" for reason, docs in dropped.reasons.items()
        )
        yield f"LEFT OUT {dropped.count} samples of {dropped.task} ({dropped.filter}): {why}"
    if run.not_compared:
        yield f"only in one run: {named(list(run.not_compared), shown=8)}"
    if run.tokens_left_out is not None:
        yield f"no token KL: {run.tokens_left_out}"
