"""Compressed runs as charts show them: a short name, and one colour and shape in every chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import altair as alt

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.theme import NARROW, RUNS, SHAPES
from lm_eval_flips.report.names import run_names

MOST_LINES = 8  # runs whose lines can be told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A compressed run with its name, colour and shape."""

    name: str
    colour: str
    shape: str
    run: RunComparison = field(repr=False)


def shown_runs(comparison: Comparison) -> tuple[ShownRun, ...]:
    """Every compressed run, in the order of the comparison."""
    names = run_names(comparison)
    return tuple(
        ShownRun(
            name=name,
            colour=RUNS[place % len(RUNS)],
            shape=SHAPES[(place + place // len(RUNS)) % len(SHAPES)],
            run=run,
        )
        for place, (name, run) in enumerate(zip(names, comparison.compressed, strict=True))
    )


def few(runs: Sequence[ShownRun], *, limit: int = MOST_LINES) -> tuple[ShownRun, ...]:
    """No more runs than can be told apart: evenly from the fewest flips to the most."""
    if len(runs) <= limit:
        return tuple(runs)
    ordered = sorted(range(len(runs)), key=lambda place: (_volume(runs[place].run), place))
    kept = {ordered[round(i * (len(runs) - 1) / (limit - 1))] for i in range(limit)}
    return tuple(own for place, own in enumerate(runs) if place in kept)


def _volume(run: RunComparison) -> float:
    flips, distances = run.pooled.flips, run.pooled.distances
    if flips is not None:
        return flips.flips
    return 0.0 if distances is None else distances.choice_kl.mean


def few_note(runs: Sequence[ShownRun], shown: Sequence[ShownRun]) -> str:
    """Says that some runs are not shown; empty if all are."""
    return "" if len(shown) == len(runs) else f"; {len(shown)} of {len(runs)} runs are shown"


def run_colour(shown: Sequence[ShownRun], *, legend: bool | None = None) -> alt.Color:
    """The colour of field ``run``, with a legend where there are several that can be told apart."""
    scale = alt.Scale(domain=[own.name for own in shown], range=[own.colour for own in shown])
    return alt.Color("run:N", scale=scale, legend=_legend(shown, legend))


def run_shape(shown: Sequence[ShownRun], *, legend: bool | None = None) -> alt.Shape:
    """The shape of field ``run``."""
    scale = alt.Scale(domain=[own.name for own in shown], range=[own.shape for own in shown])
    return alt.Shape("run:N", scale=scale, legend=_legend(shown, legend))


def _legend(shown: Sequence[ShownRun], wanted: bool | None) -> alt.Legend | None:
    several = 1 < len(shown) <= MOST_LINES
    if not (several if wanted is None else wanted):
        return None
    # short names stand side by side even on a telephone
    wide = max(len(own.name) for own in shown)
    across = max(1, min(4, 40 // (wide + 4)))
    columns = alt.ExprRef(f"{NARROW} ? {across} : {min(len(shown), max(across, 5))}")
    label = axis_label([own.name for own in shown], wide=36, narrow=18)
    return alt.Legend(title=None, columns=columns, labelExpr=label)
