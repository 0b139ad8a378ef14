"""Compressed runs as charts show them: a short name, and one colour and shape in every chart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import altair as alt

from lm_eval_flips.comparison.result import Comparison, RunComparison, RunSummary
from lm_eval_flips.report.charts.theme import NARROW, RUNS, SHAPES

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


def run_names(comparison: Comparison) -> list[str]:
    """A distinct short name for each compressed run.

    The model's last name without what all share with the baseline; where models are alike, the
    name of the run's folder.
    """
    last = [_last(run.model) for run in comparison.compressed]
    if len(set(last)) < len(last):
        last = [_folder(run) for run in comparison.compressed]
    again: Counter[str] = Counter()
    names = []
    for name in _without(last, _last(comparison.baseline.model)):
        again[name] += 1
        names.append(name if again[name] == 1 else f"{name} ({again[name]})")
    return names


def _last(model: str) -> str:
    return model.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or model


def _folder(run: RunComparison | RunSummary) -> str:
    # lm_eval writes <output folder>/<model>/results_<date>.json
    parents = PurePath(run.path).parts[:-2]
    return parents[-1] if parents else PurePath(run.path).name


def _without(names: list[str], prefix: str) -> list[str]:
    """The names without a prefix that all of them go on from."""
    rest = [name[len(prefix) :].lstrip("-_. ") for name in names if name.startswith(prefix)]
    return rest if len(rest) == len(names) and all(rest) else names


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
    return alt.Legend(title=None, columns=columns)
