"""Do flips follow the KL? (arXiv 2407.09141, figure of flips against KL)."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Literal

import altair as alt
import torch

from lm_eval_flips.comparison.across_runs import FEWEST_TOLD
from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.measures.correlation import Spearman, spearman
from lm_eval_flips.report.charts.log_axis import log_scale
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    count_words,
    ends,
    layered,
    names_apart,
    number,
    percent_axis,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    OWN_COLOURS,
    ShownRun,
    run_colour,
    run_shape,
    shown_runs,
)
from lm_eval_flips.report.charts.task_rows import task_names, task_rows

Distance = Literal["choice_kl", "token_kl"]
OVER = {"choice_kl": "choices", "token_kl": "vocabulary"}
FEWEST = 3  # runs, or else the tasks of each are shown
FEWEST_TASKS = 4  # below, a rank correlation has no interval
MOST_POINTS = 300


def plot_kl_flips(comparison: Comparison, *, distance: Distance = "choice_kl") -> Chart:
    """Flips (y) against mean KL (x, nats): a point a run; a point a task for one or two runs.

    Raises:
        FlipsError: the distance was not measured, or no answer is right or wrong.

    Example:
        >>> plot_kl_flips(comparison, distance="token_kl")  # doctest: +SKIP
    """
    named = kl_flips_chart(comparison, distance=distance)
    return chart_of(named, needs=f"{distance} and flips of two runs or tasks")


def kl_flips_chart(
    comparison: Comparison, *, distance: Distance = "choice_kl"
) -> NamedChart | None:
    """``plot_kl_flips`` with its caption; None where there are fewer than two points."""
    shown = shown_runs(comparison)
    of_runs = len(shown) >= FEWEST
    points = kl_points(comparison, distance)
    if len(points) < 2:
        return None
    every = -(-len(points) // MOST_POINTS)
    note = f" ({len(points[::every])} of {len(points)} points drawn)" if every > 1 else ""
    what = distance.replace("_", " ").replace("kl", "KL")
    return finished(
        _drawn(points[::every], shown, OVER[distance]),
        slug=f"{distance.replace('_', '-')}-flips",
        title=f"{what[0].upper()}{what[1:]} against flips",
        caption=_caption(comparison, points, what, of_runs=of_runs, distance=distance) + note + ".",
    )


def kl_points(comparison: Comparison, distance: Distance) -> list[Datum]:
    """A point for each run's pool; for one or two runs a point for each of their tasks."""
    shown, short = shown_runs(comparison), task_names(comparison)
    found = []
    for own in shown:
        if len(shown) >= FEWEST:
            found.append(_point(own.name, "all tasks", own.run.pooled, distance))
        else:
            for task in task_rows(own.run):
                found.append(_point(own.name, short[task.row.name], task.row, distance))
    return [point for point in found if point]


def _point(run: str, task: str, row: Row, distance: Distance) -> Datum:
    kl = mean_kl(row, distance)
    if row.flips is None or kl is None or not (isfinite(kl) and isfinite(row.flips.flips)):
        return {}
    interval = row.intervals.get(distance, row.intervals.get(f"{distance}_first_position"))
    return {
        "run": run,
        "task": task,
        "n": row.n,
        "kl": number(kl),
        **ends(interval, "kl_low", "kl_high"),
        "flips": number(row.flips.flips),
        **ends(row.intervals.get("flips"), "flips_low", "flips_high"),
    }


def mean_kl(row: Row, distance: Distance) -> float | None:
    """A row's mean KL over the choices or over the vocabulary, nats; None without."""
    if distance == "choice_kl":
        return None if row.distances is None else row.distances.choice_kl.mean
    return None if row.tokens is None else row.tokens.token_kl.typical


def _drawn(points: list[Datum], shown: Sequence[ShownRun], over: str) -> Chart:
    ends = [
        point[name] for point in points for name in ("kl", "kl_low", "kl_high") if name in point
    ]
    positive = [end for end in ends if end > min(point["kl"] for point in points) / 10]
    scale = log_scale(positive, whole=False)
    cut = any(point["kl"] <= 10**scale.low for point in points)
    for point in points:
        point["at"] = scale.place(point["kl"])
        for end in ("kl_low", "kl_high"):
            if end in point:
                point[f"{end}_at"] = scale.place(point[end])
    x = alt.X(
        "at:Q",
        scale=scale.altair(),
        axis=scale.axis(cut=cut),
        title=f"mean KL over the {over}, nats",
    )
    y = alt.Y("flips:Q", title="flips, % of samples", axis=percent_axis())
    colour = run_colour(shown)
    chart = base(points)
    chart = chart.transform_calculate(
        **between("kl_interval", "kl_low", "kl_high", ".3~g"),
        **between("flips_interval", "flips_low", "flips_high", ".2%"),
    )
    marked = chart.mark_point(filled=True, size=110 if len(points) < 60 else 45, opacity=0.9)
    bars = base(points).mark_rule(opacity=0.5 if len(points) <= 20 else 0.2)
    several = len(shown) > OWN_COLOURS
    return layered(
        bars.encode(x="kl_low_at:Q", x2="kl_high_at:Q", y="flips:Q", color=colour),
        bars.encode(x="at:Q", y="flips_low:Q", y2="flips_high:Q", color=colour),
        marked.encode(
            x=x,
            y=y,
            color=colour,
            shape=run_shape(shown),
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("task:N"),
                alt.Tooltip("n:Q", title="samples", format=","),
                alt.Tooltip("kl:Q", title="mean KL, nats", format=".3~g"),
                alt.Tooltip("kl_interval:N", title="95 % interval"),
                alt.Tooltip("flips:Q", format=".2%"),
                alt.Tooltip("flips_interval:N", title="95 % interval "),
            ],
        ),
        *(names_apart(points[::-1], x="at", y="flips") if several else []),
    )


def _caption(
    comparison: Comparison,
    points: list[Datum],
    what: str,
    *,
    of_runs: bool,
    distance: Distance,
) -> str:
    if of_runs:
        across = comparison.across_runs
        if distance == "token_kl":
            across = comparison.across_runs_token_kl
        found = across.get("pooled")
        return f"Over {len(points)} compressed runs {_correlation(what, found)}"
    parts = []
    for run in dict.fromkeys(point["run"] for point in points):
        own = [point for point in points if point["run"] == run]
        if len(own) < FEWEST_TASKS:
            parts.append(f"{count_words(len(own), 'task')} of {run} are too few for a correlation")
            continue
        found = spearman(
            torch.tensor([point["kl"] for point in own], dtype=torch.float64),
            torch.tensor([point["flips"] for point in own], dtype=torch.float64),
        )
        parts.append(f"over {count_words(len(own), 'task')} of {run} {_correlation(what, found)}")
    words = "; ".join(parts)
    return f"{words[0].upper()}{words[1:]}"


def _correlation(what: str, found: Spearman | None) -> str:
    if found is not None and found.n < FEWEST_TOLD:
        return f"there is no rank correlation of {what} and flips: it takes {FEWEST_TOLD}"
    if found is None or not isfinite(found.statistic):
        return f"no rank correlation of {what} and flips is defined"
    low, high = found.interval
    interval = f", 95 % interval {low:.2f} to {high:.2f}" if isfinite(low) else ""
    return f"{what} and flips have a Spearman correlation of {found.statistic:.2f}{interval}"
