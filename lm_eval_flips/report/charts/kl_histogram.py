"""How far single samples moved: histogram of the KL on a log axis."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import torch
from numpy.typing import NDArray

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.measures.divergence import quantile
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.report.charts.kl_flips import OVER, Distance
from lm_eval_flips.report.charts.log_axis import LogScale, log_scale
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    count_words,
    layered,
    number,
    percent_axis,
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

PER_DECADE = 4


def plot_kl_histogram(comparison: Comparison, *, distance: Distance = "choice_kl") -> Chart:
    """Samples (y, %) by their KL (x, nats, log axis), a line a run; 0 lies at the left end.

    Raises:
        FlipsError: the distance was not measured.

    Example:
        >>> plot_kl_histogram(comparison)  # doctest: +SKIP
    """
    return chart_of(kl_histogram_chart(comparison, distance=distance), needs=distance)


def kl_histogram_chart(
    comparison: Comparison, *, distance: Distance = "choice_kl"
) -> NamedChart | None:
    """``plot_kl_histogram`` with its caption; None where the distance was not measured."""
    values = {own.name: sample_kl(own.run, distance) for own in shown_runs(comparison)}
    every = [own for own in shown_runs(comparison) if len(values[own.name])]
    if not every:
        return None
    shown = few(every)
    scale = log_scale(np.concatenate([values[own.name] for own in shown]).tolist())
    bars = [bar for own in shown for bar in histogram(own.name, values[own.name], scale)]
    what = distance.replace("_", " ").replace("kl", "KL")
    return finished(
        _drawn(bars, shown, scale, OVER[distance]),
        slug=f"{distance.replace('_', '-')}-histogram",
        title=f"{what[0].upper()}{what[1:]} of the samples",
        caption=_caption(shown, values, what) + few_note(every, shown) + ".",
    )


def sample_kl(run: RunComparison, distance: Distance) -> Floats:
    """Every sample's KL, of the metrics that stand for their tasks, in nats."""
    found = [kl for task in task_rows(run) if (kl := metric_kl(task.metric, distance)) is not None]
    values: Floats = np.concatenate([*found, np.empty(0)])
    return values[~np.isnan(values)]


def metric_kl(metric: PairedMetric, distance: Distance) -> Floats | None:
    """Every sample's KL of one metric; None where it was not measured."""
    if distance == "token_kl":
        kl = metric.token_kl
    else:
        kl = None if metric.divergence is None else metric.divergence.kl
    return None if kl is None else np.asarray(kl.cpu(), dtype=np.float64)


def quantiles(values: Floats, shares: Sequence[float]) -> list[float]:
    """Quantiles as the summaries have them, also of infinite values."""
    whole = torch.from_numpy(values)
    return [quantile(whole, share) for share in shares]


def histogram(run: str, values: Floats, scale: LogScale) -> list[Datum]:
    """Quarters of a decade and the samples in them; the ends take what lies beyond."""
    with np.errstate(divide="ignore"):
        places = np.clip(np.log10(values), scale.low, scale.high)
    bins = round((scale.high - scale.low) * PER_DECADE)
    counts, edges = np.histogram(places, bins=bins, range=(scale.low, scale.high))
    return [
        {
            "run": run,
            "edge": number(edges[i]),
            "at": number((edges[i] + edges[i + 1]) / 2),
            "from": number(10 ** edges[i]) if i else 0,
            "to": number(10 ** edges[i + 1]) if i < bins - 1 else None,
            "count": int(counts[i]),
            "n": len(values),
            "share": number(counts[i] / len(values)),
        }
        for i in range(bins)
    ]


def _drawn(bars: list[Datum], shown: Sequence[ShownRun], scale: LogScale, over: str) -> Chart:
    title = f"KL over the {over}, nats"
    x = alt.X("at:Q", title=title, scale=scale.altair(), axis=scale.axis(cut=True))
    y = alt.Y("share:Q", title="samples, %", axis=percent_axis(), stack=None)
    colour = line_colour(shown)
    chart = base(bars)
    end = "isValid(datum.to) ? format(datum.to,'.2~g') : '∞'"
    chart = chart.transform_calculate(bin=f"format(datum.from,'.2~g')+' to '+({end})")
    last = max(bar["at"] for bar in bars)
    closed = bars + [bar | {"edge": scale.high} for bar in bars if bar["at"] == last]
    steps = [{name: bar[name] for name in ("run", "edge", "share")} for bar in closed]
    area = base(steps).mark_area(interpolate="step-after", opacity=0.3 if len(shown) == 1 else 0.12)
    line = base(steps).mark_line(interpolate="step-after", strokeWidth=1.8)
    return layered(
        area.encode(x="edge:Q", y=y, color=colour),
        line.encode(x="edge:Q", y=y, color=colour, strokeDash=line_dash(shown)),
        chart.mark_point(size=60, opacity=0, filled=True).encode(
            x=x,
            y=y,
            color=colour,
            tooltip=[
                alt.Tooltip("run:N"),
                alt.Tooltip("bin:N", title="KL, nats"),
                alt.Tooltip("count:Q", title="samples", format=","),
                alt.Tooltip("n:Q", title="of", format=","),
                alt.Tooltip("share:Q", format=".2%"),
            ],
        ),
        height=280,
    )


def _caption(shown: Sequence[ShownRun], values: dict[str, Floats], what: str) -> str:
    parts = []
    for own in shown[:3]:
        found = values[own.name]
        middle, top = quantiles(found, [0.5, 0.99])
        zeros = int((found == 0).sum())
        endless = int(np.isinf(found).sum())
        none = f", {zeros:,} with none" if zeros else ""
        none += f", {endless:,} infinite at the right end" if endless else ""
        parts.append(
            f"{own.name}: median {middle:.2g}, 99th percentile {top:.2g} nats over "
            f"{count_words(len(found), 'sample')}{none}"
        )
    return f"{what[0].upper()}{what[1:]} of single samples, {'; '.join(parts)}"
