"""Do several compressed runs change the same samples? (arXiv 2407.09141, overlap coefficient)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import altair as alt

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.comparison.standing import closest_first
from lm_eval_flips.measures.overlap import Overlap
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.marks import Datum, base, layered, number
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.theme import GAIN, NARROW
from lm_eval_flips.report.names import run_names

MOST_NUMBERS = 12  # runs whose matrix has room for a number in each cell
MOST_RUNS = 30


def plot_overlap(comparison: Comparison) -> Chart:
    """Overlap coefficient of the samples that each two runs changed, as a matrix.

    Raises:
        FlipsError: a single run, or no answers are known.

    Example:
        >>> plot_overlap(comparison)  # doctest: +SKIP
    """
    return chart_of(overlap_chart(comparison), needs="two compressed runs with known answers")


def overlap_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_overlap`` with its caption; None for a single run."""
    found = comparison.overlap
    if found is None:
        return None
    names = run_names(comparison)
    shown = closest_first(comparison)[:MOST_RUNS]
    cells = overlap_cells(found, names, shown)
    return finished(
        _drawn(cells, [names[place] for place in shown]),
        slug="overlap",
        title="Overlap of the samples that two runs changed",
        caption=_caption(found, names, len(shown)),
    )


def overlap_cells(found: Overlap, names: Sequence[str], shown: Sequence[int]) -> list[Datum]:
    """A cell for each two runs shown; on the diagonal the number of samples that one changed."""
    cells = []
    for i in shown:
        for j in shown:
            coefficient = number(found.coefficient(i, j))
            same = i == j
            cells.append(
                {
                    "first": names[i],
                    "second": names[j],
                    "common": found.common[i][j],
                    "coefficient": coefficient,
                    "jaccard": number(found.jaccard(i, j)),
                    "chance": None if same else number(found.expected(i, j)),
                    "text": f"{found.common[i][j]:,}" if same else _two_digits(coefficient),
                    "shade": None if same else coefficient,
                }
            )
    return cells


def _two_digits(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _drawn(cells: list[Datum], names: Sequence[str]) -> Chart:
    order = list(names)
    turned = alt.ExprRef(f"{NARROW} || {len(names)} > 6 ? -45 : 0")
    x = alt.X("second:N", sort=order, title=None, axis=_axis(turned, names))
    y = alt.Y("first:N", sort=order, title=None, axis=_axis(0, names))
    shade = alt.Opacity("shade:Q", scale=alt.Scale(domain=[0, 1], range=[0.05, 0.75]), legend=None)
    rect = (
        base(cells)
        .mark_rect(color=GAIN, invalid=None)
        .encode(
            x=x,
            y=y,
            opacity=shade,
            tooltip=[
                alt.Tooltip("first:N", title="run"),
                alt.Tooltip("second:N", title="and"),
                alt.Tooltip("common:Q", title="samples changed by both", format=","),
                alt.Tooltip("chance:Q", title="by chance", format=",.1f"),
                alt.Tooltip("coefficient:Q", title="overlap coefficient", format=".3f"),
                alt.Tooltip("jaccard:Q", title="Jaccard", format=".3f"),
            ],
        )
    )
    layers = [rect]
    if len(names) <= MOST_NUMBERS:
        size = alt.ExprRef(f"{NARROW} && {len(names)} > 5 ? 9 : 12")
        layers.append(base(cells).mark_text(fontSize=size).encode(x=x, y=y, text="text:N"))
    return layered(*layers, height=(36 if len(names) <= MOST_NUMBERS else 16) * len(names))


def _axis(angle: int | alt.ExprRef, names: Sequence[str]) -> alt.Axis:
    return alt.Axis(
        labelAngle=angle,
        labelExpr=axis_label(names, wide=24, narrow=12),
        domain=False,
        ticks=False,
        grid=False,
        labelOverlap=False,
        labelPadding=6,
    )


def _caption(found: Overlap, names: Sequence[str], shown: int) -> str:
    pairs = [
        (found.coefficient(i, j), i, j)
        for i in range(len(names))
        for j in range(i + 1, len(names))
        if isfinite(found.coefficient(i, j))
    ]
    note = f" ({shown} of {len(names)} runs shown)" if shown < len(names) else ""
    if not pairs:
        return f"No run changed an answer of {found.n:,} samples{note}."
    most, i, j = max(pairs)
    return (
        f"{names[i]} and {names[j]} overlap most: {found.common[i][j]:,} samples changed by both "
        f"({found.expected(i, j):,.1f} by chance), {100 * most:.0f} % of those of the run that "
        f"changed fewer; the diagonal counts what each run changed of {found.n:,} samples{note}."
    )
