"""Pieces that several charts share: data, axes, interval bars, tooltips, words for numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, Literal

import altair as alt

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.report.charts.theme import REFERENCE
from lm_eval_flips.report.name_places import Room, Side, name_places

Datum = dict[str, Any]
Align = Literal["left", "right"]
WIDTH = 420.0  # pixels that a chart is drawn on at least, where it is not on a telephone
FIT = alt.AutoSizeParams(type="fit-x", contains="padding")


def number(value: float | None) -> float | None:
    """Five digits of a number; None for what JSON cannot hold.

    Example:
        >>> number(0.123456789), number(float("nan"))
        (0.12346, None)
    """
    return None if value is None or not isfinite(value) else float(f"{value:.5g}")


def ends(interval: Interval | None, low: str, high: str) -> Datum:
    """An interval's ends as two fields; none where it has none."""
    interval = interval or NO_INTERVAL
    if not (isfinite(interval.low) and isfinite(interval.high)):
        return {}
    return {low: number(interval.low), high: number(interval.high)}


def base(rows: Iterable[Mapping[str, Any]], *, height: int = 320) -> alt.Chart:
    """An empty chart over these rows, as wide as what holds it."""
    chart = alt.Chart(alt.InlineData(values=[dict(row) for row in rows]))
    return chart.properties(width="container", height=height, autosize=FIT)


def layered(*layers: alt.Chart, height: int = 320) -> alt.LayerChart:
    """Charts over each other, as wide as what holds them."""
    bare = [layer.copy(deep=False) for layer in layers]
    for layer in bare:
        layer.width = layer.height = layer.autosize = alt.Undefined
    return alt.LayerChart(layer=bare).properties(width="container", height=height, autosize=FIT)


def lines(points: Sequence[Sequence[tuple[float, float]]]) -> alt.Chart:
    """Straight lines to compare with, in fields ``x`` and ``y``."""
    rows = [
        {"line": place, "x": number(x), "y": number(y)}
        for place, line in enumerate(points)
        for x, y in line
    ]
    chart = base(rows).mark_line(style=REFERENCE, clip=True)
    drawn: alt.Chart = chart.encode(x="x:Q", y="y:Q", detail="line:N")
    return drawn


def names_apart(points: Sequence[Datum], *, x: str, y: str, height: int = 320) -> list[alt.Chart]:
    """The runs' names beside their points, of those that have room on a page.

    Args:
        points: in fields ``x`` and ``y``, with the name in ``run``; the first go first.
        x: field of the place along.
        y: field of the place upright.
        height: of the chart.
    """
    along, upright = ([point[name] for point in points] for name in (x, y))
    placed = name_places(
        [
            (_share(point[x], along) * WIDTH, (1 - _share(point[y], upright)) * height)
            for point in points
        ],
        [point["run"] for point in points],
        room=Room(edges=(0.0, -20.0, WIDTH, height + 20.0), mark=6.0, letter=6.5, line=12.0),
        sides=("right", "left"),
    )
    sides: tuple[tuple[Side, Align, int], ...] = (("right", "left", 9), ("left", "right", -9))
    return [
        base(own)
        .mark_text(style="note", align=align, baseline="middle", dx=dx)
        .encode(x=f"{x}:Q", y=f"{y}:Q", text="run:N")
        for side, align, dx in sides
        if (own := [points[number] for number, (at, _) in placed.items() if at == side])
    ]


def _share(value: float, values: Sequence[float]) -> float:
    low, high = min(values), max(values)
    return (value - low) / (high - low) if high > low else 0.5


def percent_axis() -> alt.Axis:
    """An axis of shares, labelled in per cent."""
    return alt.Axis(format=".2~%", tickCount=5)


def points_axis() -> alt.Axis:
    """An axis of differences of shares, labelled in percentage points."""
    words = "datum.value == 0 ? '0' : format(100 * datum.value, '+.2~f')"
    return alt.Axis(labelExpr=words, tickCount=5)


def between(name: str, low: str, high: str, form: str) -> dict[str, str]:
    """How to calculate a field with an interval's ends in words, – where there is none."""
    words = f"format(datum.{low},'{form}')+' to '+format(datum.{high},'{form}')"
    return {name: f"isValid(datum.{low}) ? {words} : '–'"}


def share_words(share: float) -> str:
    """A share in per cent for a sentence.

    Example:
        >>> share_words(0.0676), share_words(0.001234), share_words(0.0)
        ('6.8 %', '0.12 %', '0 %')
    """
    if not isfinite(share):
        return "an unknown share"
    return f"{100 * share:.{1 if share >= 0.01 else 2}f} %" if share else "0 %"


def points_words(share: float) -> str:
    """A difference of shares in percentage points for a sentence.

    Example:
        >>> points_words(-0.0094)
        '-0.94 points'
    """
    return f"{100 * share:+.2f} points"


def count_words(count: int, one: str) -> str:
    """A count with its noun.

    Example:
        >>> count_words(1, "task"), count_words(14000, "sample")
        ('1 task', '14,000 samples')
    """
    return f"{count:,} {one}" + ("" if count == 1 else "s")
