"""How sure the baseline was when right and when wrong (arXiv 2407.09141, section 5)."""

from __future__ import annotations

import altair as alt
import numpy as np
from numpy.typing import NDArray

from lm_eval_flips.comparison.result import Comparison, RunComparison
from lm_eval_flips.measures.margin import Margins
from lm_eval_flips.report.charts.margin_rate import MARGIN, margin_axis
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    layered,
    number,
    percent_axis,
    share_words,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import shown_runs
from lm_eval_flips.report.charts.task_rows import task_rows
from lm_eval_flips.report.charts.theme import CORRECT, INCORRECT

BINS = 20
COLOURS = {"correct": CORRECT, "incorrect": INCORRECT}


def plot_margin_histogram(comparison: Comparison) -> Chart:
    """Histograms of the baseline's top margin over its correct and its incorrect answers.

    Each is in % of its own answers, so that the shapes compare; ticks mark the means.

    Raises:
        FlipsError: no task has choices.

    Example:
        >>> plot_margin_histogram(comparison)  # doctest: +SKIP
    """
    return chart_of(margin_histogram_chart(comparison), needs="tasks with choices")


def margin_histogram_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_margin_histogram`` with its caption; None where there are no margins."""
    # the baseline's margins are the same in every run: the one with most samples shows them
    runs = [own for own in shown_runs(comparison) if own.run.pooled.margins is not None]
    own = max(runs, key=lambda one: _samples(one.run), default=None)
    margins = None if own is None else own.run.pooled.margins
    if own is None or margins is None:
        return None
    rows = [row for name, found in baseline_margins(own.run).items() for row in _bars(name, found)]
    return finished(
        _drawn(rows, margins),
        slug="margins-correct-incorrect",
        title="Top margins of the baseline's correct and incorrect answers",
        caption=_caption(own.name, margins),
    )


def _samples(run: RunComparison) -> int:
    found = run.pooled.margins
    return 0 if found is None else found.correct.n + found.incorrect.n


def baseline_margins(run: RunComparison) -> dict[str, NDArray[np.float64]]:
    """The baseline's top margins, of its correct and of its incorrect answers."""
    found: dict[str, list[NDArray[np.float64]]] = {"correct": [], "incorrect": []}
    for task in task_rows(run):
        margin, correct = task.metric.margin, task.metric.baseline_correct
        if margin is not None and correct is not None and task.metric.changed is not None:
            found["correct"].append(margin[correct].cpu().double().numpy())
            found["incorrect"].append(margin[~correct].cpu().double().numpy())
    return {name: np.concatenate([*values, np.empty(0)]) for name, values in found.items()}


def _bars(name: str, margins: NDArray[np.float64]) -> list[Datum]:
    counts, edges = np.histogram(margins, bins=BINS, range=(0.0, 1.0))
    return [
        {
            "answers": name,
            "low": number(edges[i]),
            "high": number(edges[i + 1]),
            "count": int(counts[i]),
            "n": len(margins),
            "share": number(counts[i] / len(margins)),
        }
        for i in range(BINS)
        if counts[i]
    ]


def _drawn(rows: list[Datum], margins: Margins) -> Chart:
    means = {"correct": number(margins.mean_correct), "incorrect": number(margins.mean_incorrect)}
    scale = alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
    colour = alt.Color("answers:N", scale=scale, legend=alt.Legend(title=None))
    x = alt.X(
        "low:Q", bin="binned", title=MARGIN, scale=alt.Scale(domain=[0, 1]), axis=margin_axis()
    )
    chart = base(rows)
    chart = chart.transform_calculate(**between("bin", "low", "high", ".2f"))
    bars = chart.mark_bar(opacity=0.5, binSpacing=0).encode(
        x=x,
        x2="high:Q",
        y=alt.Y("share:Q", title="answers, % of each", axis=percent_axis(), stack=None),
        color=colour,
        tooltip=[
            alt.Tooltip("answers:N"),
            alt.Tooltip("bin:N", title="top margin"),
            alt.Tooltip("count:Q", format=","),
            alt.Tooltip("n:Q", title="of", format=","),
            alt.Tooltip("share:Q", format=".1%"),
        ],
    )
    known = [{"answers": name, "mean": mean} for name, mean in means.items() if mean is not None]
    rules = (
        base(known)
        .mark_rule(strokeWidth=2.5)
        .encode(
            x="mean:Q",
            color=colour,
            tooltip=[alt.Tooltip("answers:N"), alt.Tooltip("mean:Q", format=".3f")],
        )
    )
    return layered(bars, rules, height=280)


def _caption(run: str, found: Margins) -> str:
    parts = [
        f"{name} answers (n = {rate.n:,}) have a mean margin of {mean:.2f} and "
        f"{share_words(rate.share)} of them change with {run}"
        for name, mean, rate in (
            ("correct", found.mean_correct, found.correct),
            ("incorrect", found.mean_incorrect, found.incorrect),
        )
        if rate.n
    ]
    return f"The baseline's {', '.join(parts)}; upright lines are the means."
