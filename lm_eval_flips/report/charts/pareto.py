"""Quality against size: which compressed model is worth its bytes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Literal

import altair as alt
import torch

from lm_eval_flips.comparison.model_sizes import ModelSize, model_sizes
from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.measures.pareto import pareto_front
from lm_eval_flips.report.charts.kl_flips import OVER
from lm_eval_flips.report.charts.log_axis import log_scale
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    ends,
    layered,
    names_apart,
    number,
    percent_axis,
    points_axis,
    points_words,
    share_words,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    OWN_COLOURS,
    ShownRun,
    run_colour,
    run_shape,
    shown_runs,
)
from lm_eval_flips.report.charts.theme import REFERENCE
from lm_eval_flips.report.text.numbers import nats

Quality = Literal["flips", "choice_kl", "score_change"]
TITLES: Mapping[Quality, str] = {
    "flips": "Flips against size",
    "choice_kl": "Choice KL against size",
    "score_change": "Score change against size",
}
BASELINE = "baseline"
UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def plot_pareto(
    comparison: Comparison,
    *,
    quality: Quality = "flips",
    sizes: Mapping[str, int] | None = None,
) -> Chart:
    """Flips, choice KL or the change of the score (y) against the size of the weights (x).

    The line is the Pareto frontier: runs that no other one beats in both.

    Args:
        comparison: what ``compare`` returned.
        quality: "flips" or "choice_kl" (less is better) or "score_change", pooled over the tasks;
            the last one follows chance where models are many.
        sizes: bytes of models, by name, that are not found on this machine; see ``model_sizes``.

    Raises:
        FlipsError: the size of fewer than two models is known.

    Example:
        >>> plot_pareto(comparison, sizes={"org/model-int4": 3_900_000_000})  # doctest: +SKIP
    """
    named = pareto_chart(comparison, quality=quality, sizes=model_sizes(comparison, given=sizes))
    return chart_of(named, needs="sizes of two models, such as --size MODEL=BYTES gives them")


def pareto_chart(
    comparison: Comparison, *, quality: Quality, sizes: Mapping[str, ModelSize]
) -> NamedChart | None:
    """``plot_pareto`` with its caption; None where fewer than two points are known."""
    shown = [own for own in shown_runs(comparison) if own.run.path in sizes]
    points = pareto_points(comparison, shown, sizes, quality)
    if len(points) < 2 or all(point["run"] == BASELINE for point in points):
        return None
    unit, scale = _unit(points)
    for point in points:
        point["size"] = number(point["bytes"] / scale)
    return finished(
        _drawn(points, shown, quality, unit),
        slug=f"pareto-{quality.replace('_', '-')}",
        title=TITLES[quality],
        caption=_caption(points, quality, unit, shares=shown[0].run.pooled.perplexity is None),
    )


def pareto_points(
    comparison: Comparison,
    shown: Sequence[ShownRun],
    sizes: Mapping[str, ModelSize],
    quality: Quality,
) -> list[Datum]:
    """A point for each model whose size is known; ``frontier`` where none is better in both."""
    found = [_point(own.name, own.run.pooled, sizes[own.run.path], quality) for own in shown]
    if comparison.baseline.path in sizes:
        pooled = comparison.compressed[0].pooled
        size = sizes[comparison.baseline.path]
        found.append(_point(BASELINE, pooled, size, quality))
    points = [point for point in found if point]
    higher = quality == "score_change" and all(own.run.pooled.higher_is_better for own in shown)
    on_front = pareto_front(
        sizes=torch.tensor([point["bytes"] for point in points], dtype=torch.float64),
        distances=torch.tensor(
            [-point["y"] if higher else point["y"] for point in points], dtype=torch.float64
        ),
    )
    for point, on in zip(points, on_front.tolist(), strict=True):
        point["frontier"] = on
    return points


def _point(run: str, row: Row, size: ModelSize, quality: Quality) -> Datum:
    known = {
        "run": run,
        "n": row.n,
        "bytes": size.bytes,
        "bits": number(size.bits_per_weight),
        "source": size.source,
    }
    if run == BASELINE:
        return known | {"y": 0.0}
    own = row.numbers[quality]
    value = float(own.value)
    interval = ends(own.interval, "low", "high")
    return known | {"y": number(value), **interval} if isfinite(value) else {}


def _unit(points: Sequence[Datum]) -> tuple[str, float]:
    largest = max(point["bytes"] for point in points)
    return next((unit, scale) for unit, scale in UNITS if largest >= scale or scale == 1)


def _drawn(points: list[Datum], shown: Sequence[ShownRun], quality: Quality, unit: str) -> Chart:
    x = alt.X(
        "size:Q",
        title=f"size of the weights, {unit}",
        scale=alt.Scale(zero=True),
        axis=alt.Axis(tickCount=6),
    )
    y, form = _upright(points, quality, shares=shown[0].run.pooled.perplexity is None)
    tips = [
        alt.Tooltip("run:N"),
        alt.Tooltip("size:Q", title=f"size, {unit}", format=",.4~g"),
        alt.Tooltip("bits:Q", title="bits per weight", format=".3~g"),
        alt.Tooltip("source:N", title="size from"),
        alt.Tooltip("n:Q", title="samples", format=","),
        alt.Tooltip("y:Q", title=quality.replace("_", " "), format=form),
        alt.Tooltip("interval:N", title="95 % interval"),
    ]
    frontier = [point for point in points if point["frontier"]]
    step = base(frontier).mark_line(interpolate="step-after", style=REFERENCE)
    runs = [point for point in points if point["run"] != BASELINE]
    own = [point for point in points if point["run"] == BASELINE]
    marked = base(runs).mark_point(filled=True, size=120, opacity=1)
    marked = marked.transform_calculate(**between("interval", "low", "high", form))
    colour = run_colour(shown)
    hollow = base(own).mark_point(style="ink", size=120, strokeWidth=2)
    hollow = hollow.transform_calculate(**between("interval", "low", "high", form))
    layers = [
        step.encode(x=x, y=y, order="bytes:Q"),
        base(runs).mark_rule(opacity=0.5).encode(x=x, y="low_at:Q", y2="high_at:Q", color=colour),
        marked.encode(x=x, y=y, color=colour, shape=run_shape(shown), tooltip=tips),
    ]
    if own:
        layers.append(hollow.encode(x=x, y=y, tooltip=tips))
    if len(shown) > OWN_COLOURS:
        names = names_apart(
            [*frontier, *(point for point in runs + own if not point["frontier"])],
            x="size",
            y="y_at",
        )
    else:
        label = base(own).mark_text(align="right", dx=-10, dy=-10)
        names = [label.encode(x=x, y=y, text="run:N")]
    return layered(*layers, *names)


def _upright(points: list[Datum], quality: Quality, *, shares: bool) -> tuple[alt.Y, str]:
    """The axis of the quality and how its numbers are written; each point gets its places on it."""
    if quality == "choice_kl":
        scale = log_scale([point["y"] for point in points], whole=False)
        for point in points:
            point.update({at: scale.place(point[name]) for name, at in AT.items() if name in point})
        axis = scale.axis(cut=any(point["y"] <= 10**scale.low for point in points))
        title = f"mean KL over the {OVER[quality]}, nats"
        return alt.Y("y_at:Q", title=title, scale=scale.altair(), axis=axis), ".3~g"
    for point in points:
        point.update({at: point[name] for name, at in AT.items() if name in point})
    if quality == "flips":
        axis = percent_axis()
        return alt.Y("y_at:Q", title="flips, % of samples", axis=axis), ".2%"
    title = "change of the score"
    if not shares:
        return alt.Y("y_at:Q", title=title, axis=alt.Axis(tickCount=5)), "+.4~g"
    return alt.Y("y_at:Q", title=f"{title}, percentage points", axis=points_axis()), "+.2%"


AT = {"y": "y_at", "low": "low_at", "high": "high_at"}


def _caption(points: Sequence[Datum], quality: Quality, unit: str, *, shares: bool) -> str:
    runs = [point for point in points if point["run"] != BASELINE]
    smallest = min(runs, key=lambda point: point["bytes"])
    bits = "" if smallest["bits"] is None else f" ({smallest['bits']:.3g} bits per weight)"
    value = f"changes the score by {smallest['y']:+.4g}"
    if quality == "flips":
        value = f"flips {share_words(smallest['y'])} of the answers"
    elif quality == "choice_kl":
        value = f"has a mean choice KL of {nats(smallest['y'])} nats"
    elif shares:
        value = f"changes the score by {points_words(smallest['y'])}"
    best = [point["run"] for point in points if point["frontier"] and point["run"] != BASELINE]
    listing = ", ".join(best[:6]) + (f" and {len(best) - 6} more" if len(best) > 6 else "")
    return (
        f"{smallest['run']}, the smallest at {smallest['size']:.4g} {unit}{bits}, {value}; "
        f"on the frontier, where no model is both smaller and better: {listing}."
    )
