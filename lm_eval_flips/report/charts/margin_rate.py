"""Which answers change: those of which the baseline was unsure (arXiv 2407.09141, section 5)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    ends,
    layered,
    number,
    percent_axis,
    share_words,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    ShownRun,
    few,
    few_note,
    line_colour,
    line_dash,
    line_shape,
    shown_runs,
)

MARGIN = "baseline's top margin, probability"


def plot_margin_rate(comparison: Comparison) -> Chart:
    """Share of answers that changed (y) in bins of the baseline's top margin (x).

    With Wilson's 95 % intervals, pooled over tasks; a line a run.

    Raises:
        FlipsError: no task has choices.

    Example:
        >>> plot_margin_rate(comparison).save("margins.png")  # doctest: +SKIP
    """
    return chart_of(margin_rate_chart(comparison), needs="tasks with choices")


def margin_rate_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_margin_rate`` with its caption; None where there are no margins."""
    every = [own for own in shown_runs(comparison) if own.run.pooled.margins is not None]
    shown = few(every)
    points = [point for own in shown for point in rate_points(own)]
    if not points:
        return None
    return finished(
        _drawn(points, shown),
        slug="change-rate-top-margin",
        title="Change rate against the baseline's top margin",
        caption=_caption(shown) + few_note(every, shown) + ".",
    )


def rate_points(own: ShownRun) -> list[Datum]:
    """A point for each bin of margins that holds samples."""
    margins = own.run.pooled.margins
    return [
        {
            "run": own.name,
            "margin": number((found.low + found.high) / 2),
            "low": found.low,
            "high": found.high,
            "n": found.rate.n,
            "changed": found.rate.changed,
            "share": number(found.rate.share),
            **ends(found.rate.interval, "share_low", "share_high"),
        }
        for found in (margins.bins if margins is not None else ())
        if found.rate.n
    ]


def _drawn(points: list[Datum], shown: Sequence[ShownRun]) -> Chart:
    x = alt.X("margin:Q", title=MARGIN, scale=alt.Scale(domain=[0, 1]), axis=margin_axis())
    y = alt.Y("share:Q", title="answers changed, %", axis=percent_axis())
    colour = line_colour(shown)
    chart = base(points)
    chart = chart.transform_calculate(
        **between("interval", "share_low", "share_high", ".2%"),
        **between("bin", "low", "high", ".1f"),
    )
    band = base(points).mark_area(opacity=0.16 if len(shown) < 4 else 0.08)
    return layered(
        band.encode(x="margin:Q", y="share_low:Q", y2="share_high:Q", color=colour),
        base(points)
        .mark_line(strokeWidth=2)
        .encode(x="margin:Q", y="share:Q", color=colour, strokeDash=line_dash(shown)),
        chart.mark_point(filled=True, size=55, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            shape=line_shape(shown),
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("bin:N", title="top margin"),
                alt.Tooltip("n:Q", title="samples", format=","),
                alt.Tooltip("changed:Q", format=","),
                alt.Tooltip("share:Q", title="share changed", format=".2%"),
                alt.Tooltip("interval:N", title="95 % interval"),
            ],
        ),
    )


def margin_axis() -> alt.Axis:
    """The axis of a top margin, 0 to 1."""
    return alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f")


def _caption(shown: Sequence[ShownRun]) -> str:
    own = max(shown, key=_changed)
    margins = own.run.pooled.margins
    filled = [found for found in margins.bins if found.rate.n] if margins is not None else []
    first, last = filled[0], filled[-1]
    words = (
        f"With {own.name}, {share_words(first.rate.share)} of the answers change where the "
        f"baseline's top margin is below {first.high:.1f} (n = {first.rate.n:,})"
    )
    if first is last:
        return words
    return (
        f"{words}, and {share_words(last.rate.share)} where it is at least {last.low:.1f} "
        f"(n = {last.rate.n:,})"
    )


def _changed(own: ShownRun) -> int:
    margins = own.run.pooled.margins
    return sum(found.rate.changed for found in margins.bins) if margins is not None else -1
