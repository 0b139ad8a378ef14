"""Small bar charts for the cells of a table, as inline SVG: a bar a task, alike in every row."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from markupsafe import Markup

HEIGHT = 18
MOST = 140  # units wide; bars become thinner beyond


def bars(values: Sequence[float], *, largest: float, signed: bool, label: str) -> Markup:
    """Bars from a line: upwards where positive, downwards where negative, a dot where it is nan.

    Args:
        values: one a task, in the same order in every row.
        largest: the absolute value that fills the chart; the same in every row.
        signed: whether the line is in the middle, for values of both signs, or at the bottom.
        label: what a screen reader says instead.

    Example:
        >>> "M0 9V0" in bars([0.5, -0.25], largest=0.5, signed=True, label="change")
        True
    """
    step = min(4.0, MOST / max(1, len(values)))
    zero = HEIGHT / 2 if signed else HEIGHT - 1.0
    scale = zero / largest if largest > 0 else 0.0
    paths: dict[str, list[str]] = {"up": [], "down": [], "none": []}
    for place, value in enumerate(values):
        x = f"M{place * step:.4g} {zero:g}"
        if isnan(value):
            paths["none"].append(f"{x}v-1")
        elif value:
            end = min(float(HEIGHT), max(0.0, zero - value * scale))
            paths["up" if value > 0 else "down"].append(f"{x}V{end:.3g}")
    drawn = Markup("").join(
        Markup('<path class="{}" d="{}"/>').format(name, "".join(found))
        for name, found in paths.items()
        if found
    )
    left, width = -step / 2, step * len(values)
    return Markup(
        '<svg class="spark" role="img" width="{width:.4g}" height="{height}" '
        'viewBox="{left:.3g} 0 {width:.4g} {height}" stroke-width="{bar:.3g}">'
        '<title>{label}</title><path class="zero" d="M{left:.3g} {zero:g}h{width:.4g}"/>'
        "{drawn}</svg>"
    ).format(
        width=width,
        height=HEIGHT,
        left=left,
        bar=step * 0.75,
        zero=zero,
        label=label,
        drawn=drawn,
    )
