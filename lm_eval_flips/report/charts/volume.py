"""Volume and direction apart, beside the noise floor (ByteShape, arXiv 2606.19558)."""

from __future__ import annotations

from collections.abc import Sequence
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
from lm_eval_flips.report.charts.theme import FAINT, REFERENCE

ALL_TASKS = "all tasks"
MOST_POINTS = 300
FEWEST_FLIPS = 5  # of a task, below which its direction is left out: it is anything


def plot_volume_direction(comparison: Comparison) -> Chart:
    """Share of flips that are losses (y, direction) against flips (x, volume), by run.

    Small points are tasks. The dashed line is no preference; the grey band is the 95 % interval of
    the flips between two runs of the baseline, where a noise floor was given.

    Raises:
        FlipsError: no answer flipped.

    Example:
        >>> plot_volume_direction(comparison)  # doctest: +SKIP
    """
    return chart_of(volume_chart(comparison), needs="answers that flipped")


def volume_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_volume_direction`` with its caption; None where nothing flipped."""
    shown = shown_runs(comparison)
    points = direction_points(comparison)
    if not points:
        return None
    return finished(
        _drawn(points, shown, floor_point(comparison)),
        slug="volume-direction",
        title="Volume against direction",
        caption=_caption(comparison, shown),
    )


def direction_points(comparison: Comparison) -> list[Datum]:
    """Each run's pool, and its tasks with enough flips where all of them can be seen."""
    short = task_names(comparison)
    pools, tasks = [], []
    for own in shown_runs(comparison):
        pools.append(_point(own.name, ALL_TASKS, own.run.pooled))
        rows = [task.row for task in task_rows(own.run)]
        if len(rows) > 1:
            tasks += [
                _point(own.name, short[row.name], row)
                for row in rows
                if row.direction and row.direction.lost + row.direction.won >= FEWEST_FLIPS
            ]
    few_enough = len(tasks) <= MOST_POINTS and len(pools) <= MOST_LINES
    return [p for p in pools + (tasks if few_enough else []) if p]


def _point(run: str, task: str, row: Row) -> Datum:
    found = row.direction
    if found is None or row.flips is None or not isfinite(found.loss_share):
        return {}
    return {
        "run": run,
        "task": task,
        "n": row.n,
        "lost": found.lost,
        "won": found.won,
        "flips": number(row.flips.flips),
        **ends(row.intervals.get("flips"), "flips_low", "flips_high"),
        "loss": number(found.loss_share),
        **ends(row.intervals.get("loss_share"), "loss_low", "loss_high"),
    }


def floor_point(comparison: Comparison) -> Datum:
    """Flips between two runs of the baseline, with their interval; nothing without."""
    floor = comparison.noise_floor
    if floor is None or floor.pooled.flips is None:
        return {}
    row = floor.pooled
    return {
        "floor": number(row.flips.flips if row.flips else None),
        "n": row.n,
        **ends(row.intervals.get("flips"), "low", "high"),
    }


def _drawn(points: list[Datum], shown: Sequence[ShownRun], floor: Datum) -> Chart:
    pools = [point for point in points if point["task"] == ALL_TASKS]
    tasks = [point for point in points if point["task"] != ALL_TASKS]
    furthest = max(float(point.get("flips_high") or point["flips"]) for point in points)
    layers = [lines([[(0.0, 0.5), (furthest, 0.5)]])]
    layers += _floor(floor) if floor else []
    if tasks:
        layers.append(_marked(base(tasks), shown, size=30, opacity=0.55))
    bars = base(pools).mark_rule(strokeWidth=1.5, opacity=0.5)
    colour = run_colour(shown)
    layers += [
        bars.encode(x="flips_low:Q", x2="flips_high:Q", y="loss:Q", color=colour),
        bars.encode(x="flips:Q", y="loss_low:Q", y2="loss_high:Q", color=colour),
        _marked(base(pools), shown, size=170 if len(pools) <= MOST_LINES else 90, opacity=1.0),
    ]
    if len(shown) > OWN_COLOURS:
        layers += names_apart(pools[::-1], x="flips", y="loss")
    return layered(*layers, height=320)


def _floor(floor: Datum) -> list[alt.Chart]:
    """The noise floor as a band of its interval and a line."""
    tips = [
        alt.Tooltip("floor:Q", title="noise floor, flips", format=".2%"),
        alt.Tooltip("interval:N", title="95 % interval"),
        alt.Tooltip("n:Q", title="samples", format=","),
    ]
    chart = base([floor])
    chart = chart.transform_calculate(**between("interval", "low", "high", ".2%"))
    words = base([floor | {"text": "noise floor", "y": 1.0}])
    layers = [
        chart.mark_rule(style=REFERENCE, strokeDash=[1, 0], strokeWidth=2).encode(
            x="floor:Q", tooltip=tips
        ),
        words.mark_text(style="note", align="left", baseline="top", dx=5, dy=3).encode(
            x=alt.X("high:Q" if "high" in floor else "floor:Q"), y="y:Q", text="text:N"
        ),
    ]
    if "high" in floor:
        layers.insert(0, chart.mark_rect(style=FAINT).encode(x="low:Q", x2="high:Q", tooltip=tips))
    return layers


def _marked(chart: alt.Chart, shown: Sequence[ShownRun], *, size: int, opacity: float) -> alt.Chart:
    marked = chart.transform_calculate(
        **between("flips_interval", "flips_low", "flips_high", ".2%"),
        **between("loss_interval", "loss_low", "loss_high", ".0%"),
    )
    drawn: alt.Chart = marked.mark_point(filled=True, size=size, opacity=opacity).encode(
        x=alt.X("flips:Q", title="volume: flips, % of samples", axis=percent_axis()),
        y=alt.Y(
            "loss:Q",
            title="direction: losses, % of flips",
            axis=percent_axis(),
            scale=alt.Scale(domain=[0, 1]),
        ),
        color=run_colour(shown),
        shape=run_shape(shown),
        tooltip=[
            alt.Tooltip("run:N"),
            alt.Tooltip("task:N"),
            alt.Tooltip("n:Q", title="samples", format=","),
            alt.Tooltip("lost:Q", title="correct → incorrect", format=","),
            alt.Tooltip("won:Q", title="incorrect → correct", format=","),
            alt.Tooltip("flips:Q", format=".2%"),
            alt.Tooltip("flips_interval:N", title="95 % interval"),
            alt.Tooltip("loss:Q", title="losses among flips", format=".0%"),
            alt.Tooltip("loss_interval:N", title="95 % interval "),
        ],
    )
    return drawn


def _caption(comparison: Comparison, shown: Sequence[ShownRun]) -> str:
    parts = []
    for own in shown[:3]:
        found, flips = own.run.pooled.direction, own.run.pooled.flips
        if found is None or flips is None:
            continue
        total = found.lost + found.won
        if total:
            parts.append(
                f"{own.name} {share_words(flips.flips)} of the answers, {found.lost:,} of "
                f"{count_words(total, 'flip')} losses"
            )
        else:
            parts.append(f"{own.name} none of {flips.n:,} answers")
    words = "; ".join(parts)
    floor = comparison.noise_floor
    if floor is not None and floor.pooled.flips is not None:
        words += (
            f"; a second run of the baseline {share_words(floor.pooled.flips.flips)} "
            f"of {floor.pooled.n:,}"
        )
    return f"Flipped by {words}; at the dashed line losses and gains are alike."
