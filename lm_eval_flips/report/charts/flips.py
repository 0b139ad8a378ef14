"""The paper's first picture: scores hardly move while answers flip (arXiv 2407.09141, figure 1)."""

from __future__ import annotations

from math import isfinite

import altair as alt

from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    count_words,
    ends,
    layered,
    lines,
    names_apart,
    number,
    percent_axis,
    points_axis,
    points_words,
    share_words,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    MOST_LINES,
    OWN_COLOURS,
    ShownRun,
    run_colour,
    run_shape,
    shown_runs,
)
from lm_eval_flips.report.charts.task_rows import task_names, task_rows

MOST_POINTS = 300  # beyond, only the pools are drawn
MOST_BARS = 60  # points whose intervals can still be seen
ALL_TASKS = "all tasks"
ENDS = ("change", "change_low", "change_high")


def plot_flips(comparison: Comparison) -> Chart:
    """Flips (y) against score change (x), a point a task, with 95 % intervals.

    Raises:
        FlipsError: no task is scored as right or wrong.

    Example:
        >>> plot_flips(comparison).save("flips.svg")  # doctest: +SKIP
    """
    return chart_of(flips_chart(comparison), needs="answers that are right or wrong")


def flips_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_flips`` with its caption; None where there is nothing to draw."""
    shown = shown_runs(comparison)
    points, note = flip_points(comparison), ""
    if len(points) > MOST_POINTS or (len(shown) > MOST_LINES and _several_tasks(points)):
        points = [point for point in points if point["task"] == ALL_TASKS]
        note = "; tasks are left out, being too many"
    if not points:
        return None
    return finished(
        _drawn(points, shown),
        slug="flips-score-change",
        title="Flips against score change",
        caption=_caption(shown) + note + ".",
    )


def _several_tasks(points: list[Datum]) -> bool:
    return any(point["task"] == ALL_TASKS for point in points)


def flip_points(comparison: Comparison) -> list[Datum]:
    """A point for each run and task, and for its pool where it has several tasks."""
    short = task_names(comparison)
    found = []
    for own in shown_runs(comparison):
        rows = [task.row for task in task_rows(own.run)]
        found += [_point(own.name, short[row.name], row) for row in rows]
        if len(rows) > 1:
            found.append(_point(own.name, ALL_TASKS, own.run.pooled))
    return [point for point in found if point]


def _point(run: str, task: str, row: Row) -> Datum:
    if row.flips is None or not (isfinite(row.flips.flips) and isfinite(row.score_change)):
        return {}
    return {
        "run": run,
        "task": task,
        "n": row.n,
        "change": number(row.score_change),
        **ends(row.intervals.get("score_change"), "change_low", "change_high"),
        "flips": number(row.flips.flips),
        **ends(row.intervals.get("flips"), "flips_low", "flips_high"),
    }


def _drawn(points: list[Datum], shown: tuple[ShownRun, ...]) -> Chart:
    furthest = max(point["flips"] for point in points)
    pools = [point for point in points if point["task"] == ALL_TASKS]
    tasks = [point for point in points if point["task"] != ALL_TASKS]
    wedge = lines([[(-furthest, furthest), (0.0, 0.0)], [(0.0, 0.0), (furthest, furthest)]])
    still = lines([[(0.0, 0.0), (0.0, furthest)]])
    # as far as flips reach, or half as far: a flat score shall look flat beside them
    widest = max(abs(point.get(end, 0.0)) for point in points for end in ENDS)
    half = 1.05 * max(furthest / 2, widest)
    layers = [wedge, still]
    for part, size in ((tasks, 42), (pools, 190 if len(shown) <= MOST_LINES else 90)):
        if part:
            bars = size > 80 or len(part) <= MOST_BARS
            layers += _crossed(part, shown, half, size=size, bars=bars)
    if len(shown) > OWN_COLOURS and pools:
        layers += names_apart(pools[::-1], x="change", y="flips")
    return layered(*layers, height=340)


def _crossed(
    points: list[Datum], shown: tuple[ShownRun, ...], half: float, *, size: int, bars: bool
) -> list[alt.Chart]:
    """Points with their intervals in both directions."""
    tips = between("change_interval", "change_low", "change_high", "+.2%")
    tips |= between("flips_interval", "flips_low", "flips_high", ".2%")
    x = alt.X(
        "change:Q",
        title="change of the score, percentage points",
        axis=points_axis(),
        scale=alt.Scale(domain=[-half, half], nice=False),
    )
    y = alt.Y("flips:Q", title="flips, % of samples", axis=percent_axis())
    chart = base(points)
    chart = chart.transform_calculate(**tips)
    colour = run_colour(shown)
    marked = chart.mark_point(filled=True, size=size, opacity=0.9).encode(
        x=x,
        y=y,
        color=colour,
        shape=run_shape(shown),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("task:N"),
            alt.Tooltip("n:Q", title="samples", format=","),
            alt.Tooltip("change:Q", title="score change", format="+.2%"),
            alt.Tooltip("change_interval:N", title="95 % interval"),
            alt.Tooltip("flips:Q", format=".2%"),
            alt.Tooltip("flips_interval:N", title="95 % interval "),
        ],
    )
    if not bars:
        return [marked]
    thick = 2 if size > 100 else 1
    faint = base(points).mark_rule(opacity=0.2 if len(points) > 20 else 0.5, strokeWidth=thick)
    return [
        faint.encode(x="change_low:Q", x2="change_high:Q", y="flips:Q", color=colour),
        faint.encode(x="change:Q", y="flips_low:Q", y2="flips_high:Q", color=colour),
        marked,
    ]


def _caption(shown: tuple[ShownRun, ...]) -> str:
    rows = [(own, own.run.pooled) for own in shown if own.run.pooled.flips is not None]
    own, row = max(rows, key=lambda pair: pair[1].flips.flips if pair[1].flips else 0.0)
    share = row.flips.flips if row.flips else float("nan")
    where = count_words(row.n, "sample")
    tasks = len(task_rows(own.run))
    if tasks > 1:
        where += f" of {count_words(tasks, 'task')}"
    most = f", the run of {len(shown)} with the most flips" if len(shown) > 1 else ""
    return (
        f"With {own.name}{most}, the score changes by {points_words(row.score_change)} while "
        f"{share_words(share)} of the answers flip ({where}); on the dashed lines all flips would "
        "go one way, on the middle one losses and gains cancel"
    )
