"""What tells how much written text loses? Rank correlations over the runs, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import altair as alt

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.marks import Datum, between, count_words, ends, number
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.theme import REFERENCE
from lm_eval_flips.report.text.across import LOSSES, in_words

WIDE, NARROW = (2, 180), (1, 170)  # columns, and pixels of one
ROW = 22  # pixels


def plot_text_losses(comparison: Comparison) -> Chart:
    """Spearman's correlation (x) of each distance (y) with each loss of written text (a picture).

    Raises:
        FlipsError: fewer than five runs, or no written answers beside choices or a judge.

    Example:
        >>> plot_text_losses(comparison)  # doctest: +SKIP
    """
    named = text_losses_chart(comparison)
    return chart_of(named, needs="written answers of five runs, and distances or choices")


def text_losses_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_text_losses`` with its caption; None where no rank correlation is known."""
    points = correlation_points(comparison)
    if not points:
        return None
    return finished(
        _drawn(points, *WIDE),
        narrow=_drawn(points, *NARROW),
        slug="text-losses",
        title="What tells how much written text loses",
        caption=_caption(points),
    )


def correlation_points(comparison: Comparison) -> list[Datum]:
    """A point for each loss of written text and each distance that may tell it."""
    return [
        {
            "loss": LOSSES[own.loss],
            "by": in_words(key),
            "n": found.n,
            "rho": number(found.statistic),
            **ends(found.interval, "low", "high"),
        }
        for own in comparison.text_losses
        for key, found in own.told_by.items()
        if isfinite(found.statistic)
    ]


def _drawn(points: Sequence[Datum], columns: int, width: int) -> Chart:
    order = list(dict.fromkeys(point["by"] for point in points))
    losses = list(dict.fromkeys(point["loss"] for point in points))
    chart = alt.Chart().transform_calculate(**between("interval", "low", "high", ".2f"))
    y = alt.Y("by:N", sort=order, title=None, axis=alt.Axis(ticks=False, domain=False))
    axis = alt.Axis(values=[-1, -0.5, 0, 0.5, 1], format=".1~f", title=None)
    x = alt.X("rho:Q", scale=alt.Scale(domain=[-1, 1]), axis=axis)
    none = chart.mark_rule(style=REFERENCE).encode(x=alt.datum(0))
    bars = chart.mark_rule(strokeWidth=2, opacity=0.5).encode(x="low:Q", x2="high:Q", y=y)
    marked = chart.mark_point(filled=True, size=90, opacity=1).encode(
        x=x,
        y=y,
        tooltip=[
            alt.Tooltip("loss:N"),
            alt.Tooltip("by:N", title="told by"),
            alt.Tooltip("rho:Q", title="Spearman", format=".2f"),
            alt.Tooltip("interval:N", title="95 % interval"),
            alt.Tooltip("n:Q", title="runs"),
        ],
    )
    cell = alt.LayerChart(layer=[none, bars, marked], data=alt.InlineData(values=list(points)))
    drawn: alt.FacetChart = cell.properties(width=width, height=ROW * len(order)).facet(
        facet=alt.Facet("loss:N", sort=losses, title=None),
        columns=columns,
        spacing={"row": 18, "column": 24},
    )
    return drawn


def _caption(points: Sequence[Datum]) -> str:
    """Each loss with what goes with it most closely, and whether another is as close."""
    parts = []
    for loss in dict.fromkeys(point["loss"] for point in points):
        own = sorted(
            (point for point in points if point["loss"] == loss), key=lambda point: -point["rho"]
        )
        best = own[0]
        parts.append(f"{loss} most with {best['by']} ({best['rho']:.2f})")
    runs = count_words(points[0]["n"], "run")
    return (
        f"Rank correlations over {runs} with 95 % intervals: {'; '.join(parts)}. "
        "Distances whose intervals overlap are not told apart."
    )
