"""How far the samples of each task moved: quantiles of the KL on a log axis."""

from __future__ import annotations

from math import inf

import altair as alt
import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.kl_flips import OVER, Distance
from lm_eval_flips.report.charts.kl_histogram import metric_kl, quantiles, sample_kl
from lm_eval_flips.report.charts.labelled_rows import ROW, labelled_rows
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.log_axis import LogScale, log_scale
from lm_eval_flips.report.charts.marks import Datum, base, layered, number
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import ShownRun, run_colour, shown_runs
from lm_eval_flips.report.charts.task_rows import TaskRow

Floats = NDArray[np.float64]

QUANTILES = {"p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}


def plot_kl_quantiles(comparison: Comparison, *, distance: Distance = "choice_kl") -> Chart:
    """Quantiles of the samples' KL (x, nats, log axis) of each task (y) and run.

    Thick from 25 % to 75 %, thin from 5 % to 95 %, a tick at the median, a ring at the 99th
    percentile, a diamond at the mean.

    Raises:
        FlipsError: the distance was not measured.

    Example:
        >>> plot_kl_quantiles(comparison)  # doctest: +SKIP
    """
    return chart_of(kl_quantiles_chart(comparison, distance=distance), needs=distance)


def kl_quantiles_chart(
    comparison: Comparison, *, distance: Distance = "choice_kl"
) -> NamedChart | None:
    """``plot_kl_quantiles`` with its caption; None where the distance was not measured."""
    shown = shown_runs(comparison)
    rows, note = quantile_rows(comparison, shown, distance)
    if not rows:
        return None
    what = distance.replace("_", " ").replace("kl", "KL")
    ends = [row[name] for row in rows for name in ("p5", "p95", "p99", "mean") if row[name]]
    return finished(
        _drawn(rows, shown, log_scale(ends), OVER[distance]),
        slug=f"{distance.replace('_', '-')}-quantiles",
        title=f"{what[0].upper()}{what[1:]} by task",
        caption=_caption(rows, what, note),
    )


def quantile_rows(
    comparison: Comparison, shown: tuple[ShownRun, ...], distance: Distance
) -> tuple[list[Datum], str]:
    """A row of quantiles for each task and run, and for each run's pool; what is left out."""

    def of_task(task: TaskRow) -> Datum | None:
        kl = metric_kl(task.metric, distance)
        return None if kl is None or not len(kl) else _quantiles(kl)

    rows, note = labelled_rows(
        comparison,
        shown,
        of_task=of_task,
        pooled=lambda run: _quantiles(sample_kl(run.run, distance)),
        size=lambda row: row["median"] or 0,
        largest="largest medians",
    )
    labelled = [{"label": row.label, "run": row.run, **row.value} for row in rows]
    return labelled, f" ({note})" if note else ""


def _quantiles(kl: Floats) -> Datum:
    kl = kl[~np.isnan(kl)]
    values = quantiles(kl, list(QUANTILES.values()))
    named = dict(zip(QUANTILES, map(number, values), strict=True))
    mean = number(float(kl.mean()))
    return {"n": len(kl), **named, "mean": mean}


def _drawn(rows: list[Datum], shown: tuple[ShownRun, ...], scale: LogScale, over: str) -> Chart:
    placed = [
        row
        | {
            # what is no number in JSON is infinite, and lies at the end
            f"{name}_at": scale.place(inf if row[name] is None else row[name])
            for name in (*QUANTILES, "mean")
        }
        for row in rows
    ]
    order = [row["label"] for row in rows]
    axis = alt.Axis(grid=False, labelOverlap=False, labelExpr=axis_label(order))
    y = alt.Y("label:N", sort=order, title=None, axis=axis)
    title = f"KL over the {over}, nats"
    x = alt.X("p25_at:Q", title=title, scale=scale.altair(), axis=scale.axis(cut=True))
    colour = run_colour(shown, legend=False)
    chart = base(placed)
    tips = [alt.Tooltip("label:N", title="task"), alt.Tooltip("run:N")]
    tips += [alt.Tooltip("n:Q", title="samples", format=",")]
    tips += [alt.Tooltip(f"{name}:Q", format=".3~g") for name in (*QUANTILES, "mean")]
    thin = chart.mark_rule(strokeWidth=1.2).encode(y=y, x="p5_at:Q", x2="p95_at:Q", color=colour)
    thick = chart.mark_bar(height=8, opacity=0.45).encode(
        y=y, x=x, x2="p75_at:Q", color=colour, tooltip=tips
    )
    return layered(
        thin,
        thick,
        chart.mark_tick(style="ink", thickness=2, height=12, opacity=1).encode(
            y=y, x="median_at:Q", tooltip=tips
        ),
        chart.mark_point(size=28, strokeWidth=1.2).encode(
            y=y, x="p99_at:Q", color=colour, tooltip=tips
        ),
        chart.mark_point(shape="diamond", filled=True, size=34, opacity=1).encode(
            y=y, x="mean_at:Q", color=colour, tooltip=tips
        ),
        height=ROW * len(order),
    )


def _caption(rows: list[Datum], what: str, note: str) -> str:
    known = [row for row in rows if row["median"] is not None]
    parts = ""
    if known:
        most = max(known, key=lambda row: row["median"])
        parts = (
            f"The largest median {what}, {most['median']:.2g} nats, is that of {most['label']}; "
        )
    if any(row["mean"] is None for row in rows):
        note += "; infinite ones lie at the right end"
    words = (
        f"{parts}bars hold half of the samples, lines 90 %, ticks are medians, diamonds means, "
        f"rings the 99th percentile{note}."
    )
    return f"{words[0].upper()}{words[1:]}"
