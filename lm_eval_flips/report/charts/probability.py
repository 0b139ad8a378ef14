"""How the probability of the baseline's answer moves, against how sure it was."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.pairs.answers import as_compared
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.report.charts.margin_rate import MARGIN, margin_axis
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    count_words,
    layered,
    lines,
    number,
    points_axis,
    points_words,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    ShownRun,
    few,
    few_note,
    line_colour,
    line_dash,
    shown_runs,
)
from lm_eval_flips.report.charts.task_rows import task_rows

Floats = NDArray[np.float64]

MOST_BANDS = 3  # runs whose bands can lie over each other
BINS = 20  # of the margin, where quantiles are taken
CELLS = (25, 30)  # of the density: margin and change
QUANTILES = {"p5": 0.05, "median": 0.5, "p95": 0.95}


def plot_probability_change(comparison: Comparison) -> Chart:
    """Change of the probability of the baseline's answer (y) against its top margin (x).

    Median and 5 % to 95 % of the samples in bins of the margin, pooled over tasks; for a single
    run also how many samples lie where.

    Raises:
        FlipsError: no task has choices.

    Example:
        >>> plot_probability_change(comparison)  # doctest: +SKIP
    """
    return chart_of(probability_chart(comparison), needs="tasks with choices")


def probability_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_probability_change`` with its caption; None where there are no choices."""
    changes = {own.name: probability_changes(own.run) for own in shown_runs(comparison)}
    every = [own for own in shown_runs(comparison) if len(changes[own.name][0])]
    if not every:
        return None
    shown = few(every)
    points = [row for own in shown for row in _bins(own.name, *changes[own.name])]
    cells = _cells(*changes[shown[0].name]) if len(shown) == 1 else []
    largest = max(shown, key=lambda own: float(np.abs(changes[own.name][1]).mean()))
    return finished(
        _drawn(points, cells, shown),
        slug="probability-change-top-margin",
        title="Change of probability against the baseline's top margin",
        caption=_caption(largest, changes[largest.name][1]) + few_note(every, shown) + ".",
    )


def probability_changes(run: RunComparison) -> tuple[Floats, Floats]:
    """The baseline's top margin, and the change of its answer's probability, of every sample."""
    found = [_of_metric(task.metric) for task in task_rows(run)]
    parts = [own for own in found if own is not None]
    if not parts:
        return np.empty(0), np.empty(0)
    return np.concatenate([own[0] for own in parts]), np.concatenate([own[1] for own in parts])


def _of_metric(metric: PairedMetric) -> tuple[Floats, Floats] | None:
    pairs, answer = metric.pairs, metric.baseline_answer
    sides = [as_compared(pairs, side, metric.metric) for side in (pairs.baseline, pairs.compressed)]
    scores = [side.cpu().numpy()[metric.rows] for side in sides if side is not None]
    if answer is None or metric.margin is None or len(scores) < 2:
        return None
    rows, places = np.arange(len(metric.rows)), answer.cpu().numpy()
    # scipy's, since hundreds of small tasks are faster without torch's threads
    before, after = (softmax(own, axis=-1)[rows, places] for own in scores)
    return metric.margin.cpu().double().numpy(), after - before


def _bins(run: str, margins: Floats, changes: Floats) -> list[Datum]:
    place = np.minimum((margins * BINS).astype(int), BINS - 1)
    found = []
    for i in range(BINS):
        own = changes[place == i]
        if len(own):
            quantiles = np.quantile(own, list(QUANTILES.values()))
            row = {"run": run, "margin": (i + 0.5) / BINS, "n": len(own)}
            found.append(row | dict(zip(QUANTILES, map(number, quantiles), strict=True)))
    return found


def _cells(margins: Floats, changes: Floats) -> list[Datum]:
    """How many samples lie where, of those cells that hold any."""
    most = max(float(np.abs(changes).max()), 0.001)
    counts, x, y = np.histogram2d(margins, changes, bins=CELLS, range=((0, 1), (-most, most)))
    return [
        {
            "x": number(x[i]),
            "x2": number(x[i + 1]),
            "y": number(y[j]),
            "y2": number(y[j + 1]),
            "n": int(counts[i, j]),
        }
        for i, j in zip(*counts.nonzero(), strict=True)
    ]


def _drawn(points: list[Datum], cells: list[Datum], shown: Sequence[ShownRun]) -> Chart:
    x = alt.X("margin:Q", title=MARGIN, scale=alt.Scale(domain=[0, 1]), axis=margin_axis())
    title = "change of probability, percentage points"
    y = alt.Y("median:Q", title=title, axis=points_axis())
    colour = line_colour(shown)
    layers = []
    if cells:
        most = max(2, *(cell["n"] for cell in cells))
        scale = alt.Scale(type="log", domain=[1, most], range=[0.08, 0.75])
        shade = alt.Opacity("n:Q", scale=scale, legend=None)
        rect = base(cells).mark_rect(color=shown[0].colour)
        count = [alt.Tooltip("n:Q", title="samples", format=",")]
        layers.append(
            rect.encode(x="x:Q", x2="x2:Q", y="y:Q", y2="y2:Q", opacity=shade, tooltip=count)
        )
    elif len(shown) <= MOST_BANDS:
        band = base(points).mark_area(opacity=0.14)
        layers.append(band.encode(x="margin:Q", y="p5:Q", y2="p95:Q", color=colour))
    chart = base(points)
    chart = chart.transform_calculate(**between("middle", "p5", "p95", "+.2f"))
    edge = base(points).mark_line(strokeWidth=1, strokeDash=[2, 2])
    if cells:  # on the density, ink
        edge = base(points).mark_line(style="ink", strokeWidth=1, strokeDash=[2, 2], opacity=0.7)
    edged = edge if cells else edge.encode(color=colour)
    return layered(
        *layers,
        lines([[(0.0, 0.0), (1.0, 0.0)]]),
        edged.encode(x="margin:Q", y="p5:Q"),
        edged.encode(x="margin:Q", y="p95:Q"),
        base(points)
        .mark_line(strokeWidth=2.5)
        .encode(x="margin:Q", y="median:Q", color=colour, strokeDash=line_dash(shown)),
        chart.mark_point(filled=True, size=30, opacity=1).encode(
            x=x,
            y=y,
            color=colour,
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("margin:Q", title="top margin", format=".3f"),
                alt.Tooltip("n:Q", title="samples", format=","),
                alt.Tooltip("median:Q", format="+.4f"),
                alt.Tooltip("middle:N", title="5 % to 95 %"),
            ],
        ),
    )


def _caption(own: ShownRun, changes: Floats) -> str:
    lost, samples = float((changes < 0).mean()), count_words(len(changes), "sample")
    return (
        f"With {own.name}, the baseline's answer changes its probability by "
        f"{points_words(float(np.median(changes)))} at the median of {samples} and becomes less "
        f"likely in {100 * lost:.0f} % of them; the bold line is the median, dashed lines hold "
        "90 % of the samples"
    )
