"""Size against distance as inline SVG: a mark a model, the Pareto front as a line, names beside.

It is drawn in units of its own, so that what lies over each other is known, and in the page's
colours, so that it is readable on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10

from markupsafe import Markup

from lm_eval_flips.comparison.model_sizes import ModelSize
from lm_eval_flips.report.looks import Look
from lm_eval_flips.report.name_places import Box, Room, Side, name_places

WIDTH, HEIGHT = 420.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 12.0, 40.0, 42.0
MARK = 5.5
LETTER = 6.8  # width of one, at the size of the names
LINE = 13.0
TICKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A model: ``near`` is its distance as text."""

    name: str
    bytes: float
    distance: float
    near: str
    look: Look
    on_front: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """From values to places on the picture; ticks with their labels."""

    low: float
    high: float
    begin: float
    end: float
    log: bool
    ticks: tuple[tuple[float, str], ...]

    def at(self, value: float) -> float:
        """Where a value lies; what is beyond lies at the end."""
        if self.log:
            value = log10(value) if value > 0 else self.low
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.begin + share * (self.end - self.begin), 1)


def front(
    points: Sequence[Point], *, label: str, unit: str, log: bool, baseline: ModelSize | None
) -> Markup:
    """The picture; nothing for fewer than two models.

    Args:
        points: of the models whose size and distance are known.
        label: what the distance is.
        unit: of the distance: "%" for shares.
        log: a logarithmic axis of distances.
        baseline: its size, which is drawn as a line; None where it is not known.
    """
    shown = [point for point in points if isfinite(point.distance)]
    if len(shown) < 2:
        return Markup("")
    x, size_unit = _size_axis([point.bytes for point in shown], baseline)
    y = _distance_axis([point.distance for point in shown], unit=unit, log=log)
    title = f"{label}, {unit}, against the size of the weights, {size_unit}"
    parts = [_grid(x, y), _baseline(x, baseline), _steps(shown, x, y)]
    parts += [_mark(point, x, y) for point in shown]
    parts += _names(shown, x, y)
    return Markup(
        '<svg class="front" role="img" viewBox="0 0 {width:g} {height:g}"><title>{title}</title>'
        '<text class="axis-title" x="0" y="13">{up}</text>'
        '<text class="axis-title" x="{right}" y="{bottom}" text-anchor="end">{along}</text>'
        "{parts}</svg>"
    ).format(
        width=WIDTH,
        height=HEIGHT,
        title=title,
        up=f"{label}, {unit}",
        along=f"size of the weights, {size_unit}",
        right=WIDTH - RIGHT,
        bottom=HEIGHT - 6,
        parts=Markup("").join(parts),
    )


def _size_axis(sizes: Sequence[float], baseline: ModelSize | None) -> tuple[_Axis, str]:
    largest = max([*sizes, *([] if baseline is None else [float(baseline.bytes)])])
    scale, unit = next(
        ((s, u) for s, u in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if largest >= s), (1e3, "kB")
    )
    ticks = tuple((value * scale, f"{value:g}") for value in _round_steps(1.04 * largest / scale))
    return (
        _Axis(low=0.0, high=1.04 * largest, begin=LEFT, end=WIDTH - RIGHT, log=False, ticks=ticks),
        unit,
    )


def _distance_axis(distances: Sequence[float], *, unit: str, log: bool) -> _Axis:
    begin, end = HEIGHT - BOTTOM, TOP
    positive = [value for value in distances if value > 0]
    if log and positive:
        low, high = floor(log10(min(positive))), ceil(log10(max(positive)) + 0.01)
        ticks = tuple((10.0**power, f"{10.0**power:g}") for power in range(low, high + 1))
        return _Axis(low=float(low), high=float(high), begin=begin, end=end, log=True, ticks=ticks)
    largest = 1.05 * max(distances) or 1.0
    times = 100 if unit == "%" else 1
    ticks = tuple((value / times, f"{value:g}") for value in _round_steps(largest * times))
    return _Axis(low=0.0, high=largest, begin=begin, end=end, log=False, ticks=ticks)


def _round_steps(largest: float) -> list[float]:
    """From 0 in steps of 1, 2 or 5 and zeros, to what lies within.

    Example:
        >>> _round_steps(23.0)
        [0.0, 5.0, 10.0, 15.0, 20.0]
    """
    rough = largest / TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(times * power for times in (1, 2, 5, 10) if times * power >= rough * 0.9)
    return [float(f"{place * step:.6g}") for place in range(int(largest / step) + 1)]


def _grid(x: _Axis, y: _Axis) -> Markup:
    lines = [
        Markup('<path class="grid" d="M{left},{at}H{right}"/>').format(
            left=LEFT, right=WIDTH - RIGHT, at=y.at(value)
        )
        + Markup('<text class="tick" x="{x}" y="{y}" text-anchor="end">{text}</text>').format(
            x=LEFT - 7, y=y.at(value) + 4, text=text
        )
        for value, text in y.ticks
    ]
    lines += [
        Markup('<text class="tick" x="{x}" y="{y}" text-anchor="middle">{text}</text>').format(
            x=x.at(value), y=HEIGHT - BOTTOM + 17, text=text
        )
        for value, text in x.ticks
    ]
    return Markup("").join(lines)


def _baseline(x: _Axis, size: ModelSize | None) -> Markup:
    if size is None:
        return Markup("")
    return Markup(
        '<path class="reference" d="M{at},{top}V{bottom}"/>'
        '<text class="tick" x="{at}" y="{above}" text-anchor="end">baseline</text>'
    ).format(at=x.at(float(size.bytes)), top=TOP, bottom=HEIGHT - BOTTOM, above=TOP - 5)


def _steps(points: Sequence[Point], x: _Axis, y: _Axis) -> Markup:
    """The front: from the smallest model, as near as any of that size."""
    on = sorted((point for point in points if point.on_front), key=lambda own: own.bytes)
    if not on:
        return Markup("")
    path = f"M{x.at(on[0].bytes)},{y.at(on[0].distance)}" + "".join(
        f"H{x.at(point.bytes)}V{y.at(point.distance)}" for point in on[1:]
    )
    return Markup('<path class="reference" d="{path}"/>').format(path=path)


def _mark(point: Point, x: _Axis, y: _Axis) -> Markup:
    return Markup(
        '<g transform="translate({x},{y}) scale({size})"><title>{name}: {near}</title>'
        '<path fill="{colour}" d="{path}"/></g>'
    ).format(
        x=x.at(point.bytes),
        y=y.at(point.distance),
        size=MARK,
        name=point.name,
        near=point.near,
        colour=point.look.colour,
        path=point.look.shape.path,
    )


def _names(points: Sequence[Point], x: _Axis, y: _Axis) -> list[Markup]:
    """Names that have room, those on the front first."""
    order = sorted(points, key=lambda own: not own.on_front)
    placed = name_places(
        [(x.at(own.bytes), y.at(own.distance)) for own in order],
        [own.name for own in order],
        room=Room(
            edges=(LEFT, TOP - LINE, WIDTH, HEIGHT - BOTTOM + LINE),
            mark=MARK,
            letter=LETTER,
            line=LINE,
        ),
        sides=("right", "left", "above", "below"),
    )
    return [_name(order[number], side, box) for number, (side, box) in placed.items()]


def _name(point: Point, side: Side, box: Box) -> Markup:
    left, _, right, bottom = box
    anchors = {"right": ("start", left), "left": ("end", right)}
    anchor, at = anchors.get(side, ("middle", (left + right) / 2))
    kind = "name on" if point.on_front else "name"
    return Markup(
        '<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{name}</text>'
    ).format(kind=kind, x=at, y=bottom - 3.2, anchor=anchor, name=point.name)
