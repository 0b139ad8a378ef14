"""Compressed runs as charts show them: a short name, and one colour and shape in every chart.

Up to three runs have a colour each. More have their families' colours, and the shapes of their
bits; lines of one family are told apart by their dashes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import altair as alt

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.comparison.standing import closest_first
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.theme import NARROW, RUNS, SHAPES
from lm_eval_flips.report.looks import OTHER, Look, family_key, look, shape_key
from lm_eval_flips.report.names import run_names

MOST_LINES = 8  # runs whose lines can be told apart
OWN_COLOURS = 3  # runs that have a colour each
DASHES = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3], [4, 4], [12, 3], [1, 4], [6, 2, 1, 2, 1, 2])


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRun:
    """A compressed run with its name, colour and shape.

    ``place`` is its place in the comparison; ``by_family`` says that its colour is its family's.
    """

    name: str
    colour: str
    shape: str
    place: int
    look: Look
    by_family: bool
    run: RunComparison = field(repr=False)


def shown_runs(comparison: Comparison) -> tuple[ShownRun, ...]:
    """Every compressed run, the closest to the baseline first."""
    names, runs = run_names(comparison), comparison.compressed
    looks = [_look(run) for run in runs]
    by_family = len(runs) > OWN_COLOURS and any(run.scheme is not None for run in runs)
    return tuple(
        ShownRun(
            name=names[place],
            colour=looks[place].colour if by_family else RUNS[place % len(RUNS)],
            shape=looks[place].shape.path
            if by_family
            else SHAPES[(place + place // len(RUNS)) % len(SHAPES)],
            place=place,
            look=looks[place],
            by_family=by_family,
            run=runs[place],
        )
        for place in closest_first(comparison)
    )


def _look(run: RunComparison) -> Look:
    scheme = run.scheme
    return look("", None) if scheme is None else look(scheme.family, scheme.bits)


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
    """The colour of field ``run``, with a legend where there are several that can be told apart.

    By family, the legend is of families.
    """
    scale = alt.Scale(domain=[own.name for own in shown], range=[own.colour for own in shown])
    if _by_family(shown):
        return alt.Color("run:N", scale=scale, legend=_families(shown, legend))
    return alt.Color("run:N", scale=scale, legend=_names(shown, legend))


def run_shape(shown: Sequence[ShownRun], *, legend: bool | None = None) -> alt.Shape:
    """The shape of field ``run``; by family, the legend is of bits."""
    # from the other end: Vega-Lite would make one legend of two scales over the same names
    own_order = list(shown)[::-1] if _by_family(shown) else list(shown)
    scale = alt.Scale(
        domain=[own.name for own in own_order], range=[own.shape for own in own_order]
    )
    if _by_family(shown):
        return alt.Shape("run:N", scale=scale, legend=_bits(shown, legend))
    return alt.Shape("run:N", scale=scale, legend=_names(shown, legend))


def line_colour(shown: Sequence[ShownRun]) -> alt.Color:
    """The colour of lines, whose legend names each run."""
    scale = alt.Scale(domain=[own.name for own in shown], range=[own.colour for own in shown])
    return alt.Color("run:N", scale=scale, legend=_names(shown, None))


def line_dash(shown: Sequence[ShownRun]) -> alt.StrokeDash:
    """The dashes of lines: none, but for those that share a colour with one before."""
    before: Counter[str] = Counter()
    dashes = []
    for own in shown:
        dashes.append(DASHES[before[own.colour] % len(DASHES)])
        before[own.colour] += 1
    scale = alt.Scale(domain=[own.name for own in shown], range=dashes)
    return alt.StrokeDash("run:N", scale=scale, legend=_names(shown, None))


def line_shape(shown: Sequence[ShownRun]) -> alt.Shape | alt.UndefinedType:
    """The shape of points on lines; by family all are round, as dashes tell lines apart."""
    if _by_family(shown):
        return alt.Undefined
    scale = alt.Scale(domain=[own.name for own in shown], range=[own.shape for own in shown])
    return alt.Shape("run:N", scale=scale, legend=_names(shown, None))


def _by_family(shown: Sequence[ShownRun]) -> bool:
    return any(own.by_family for own in shown)


def _names(shown: Sequence[ShownRun], wanted: bool | None) -> alt.Legend | None:
    several = 1 < len(shown) <= MOST_LINES
    if not (several if wanted is None else wanted):
        return None
    # short names stand side by side even on a telephone
    wide = max(len(own.name) for own in shown)
    across = max(1, min(4, 40 // (wide + 4)))
    columns = alt.ExprRef(f"{NARROW} ? {across} : {min(len(shown), max(across, 5))}")
    label = axis_label([own.name for own in shown], wide=36, narrow=18)
    dashed: dict[str, Any] = {"symbolType": "stroke", "symbolStrokeWidth": 2, "symbolSize": 400}
    looks = dashed if _by_family(shown) else {}
    return alt.Legend(title=None, columns=columns, labelExpr=label, **looks)


def _families(shown: Sequence[ShownRun], wanted: bool | None) -> alt.Legend | None:
    """Each family by a run of its own."""
    entries = {}
    for words, colour in family_key([own.look for own in shown]):
        first = next(own for own in shown if own.colour == colour)
        entries[first.name] = words
    return None if wanted is False else _key(entries, symbolType="circle")


def _bits(shown: Sequence[ShownRun], wanted: bool | None) -> alt.Legend | None:
    """Each shape by a run of its own."""
    entries = {}
    for shape in shape_key([own.look for own in shown]):
        first = next(own for own in shown if own.look.shape.label == shape.label)
        entries[first.name] = shape.label
    grey = {"symbolFillColor": OTHER, "symbolStrokeColor": OTHER}
    return None if wanted is False else _key(entries, **grey)


def _key(entries: dict[str, str], **looks: Any) -> alt.Legend:
    """A legend whose entries stand for others of their kind, under the kind's name."""
    marked = json.dumps({f"={name}": words for name, words in entries.items()})
    return alt.Legend(
        title=None,
        values=list(entries),
        labelExpr=f'({marked})["=" + datum.value] || datum.label',
        columns=alt.ExprRef(f"containerSize()[0] < 400 ? 2 : {min(4, len(entries))}"),
        **looks,
    )
