"""Losses and gains of several runs, one small picture a task."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from lm_eval_flips.comparison.result import Comparison
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.losses_gains import LOST, WON, way_legend
from lm_eval_flips.report.charts.marks import Datum, count_words
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import (
    ShownRun,
    few,
    few_note,
    shown_runs,
)
from lm_eval_flips.report.charts.task_rows import task_names, task_rows
from lm_eval_flips.report.charts.theme import GAIN, LOSS

FEWEST_TASKS = 8
MOST_TASKS = 60
WIDE, NARROW = (6, 118), (3, 82)  # columns, and pixels of one


def plot_small_multiples(comparison: Comparison) -> Chart:
    """Losses (down) and gains (up) of every run, % of samples, one small picture a task.

    Raises:
        FlipsError: a single run, or fewer than eight tasks: see ``plot_losses_gains``.

    Example:
        >>> plot_small_multiples(comparison)  # doctest: +SKIP
    """
    named = small_multiples_chart(comparison)
    return chart_of(named, needs="two runs and eight tasks whose answers are right or wrong")


def small_multiples_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_small_multiples`` with its caption; None for a single run or few tasks."""
    every = shown_runs(comparison)
    shown = few(every)
    counts = task_counts(comparison, shown)
    tasks = sorted({own["task"] for own in counts}, key=lambda task: (-_volume(counts, task), task))
    if len(shown) < 2 or len(tasks) < FEWEST_TASKS:
        return None
    kept = tasks[:MOST_TASKS]
    counts = [own for own in counts if own["task"] in kept]
    return finished(
        _drawn(counts, kept, shown, *WIDE),
        narrow=_drawn(counts, kept, shown, *NARROW),
        slug="tasks",
        title="Lost and won answers, task by task",
        caption=_caption(counts, tasks, kept, shown) + few_note(every, shown) + ".",
    )


def task_counts(comparison: Comparison, shown: Sequence[ShownRun]) -> list[Datum]:
    """The samples that each run lost and won of each task."""
    short = task_names(comparison)
    return [
        {
            "task": short[task.row.name],
            "run": own.name,
            "n": flips.n,
            LOST: flips.correct_to_incorrect,
            WON: flips.incorrect_to_correct,
        }
        for own in shown
        for task in task_rows(own.run)
        if (flips := task.row.flips) is not None and flips.n
    ]


def _volume(counts: Sequence[Datum], task: str) -> float:
    """A task's flips over all runs."""
    found = [(own[LOST] + own[WON]) / own["n"] for own in counts if own["task"] == task]
    return float(sum(found))


def _drawn(
    counts: list[Datum], tasks: Sequence[str], shown: Sequence[ShownRun], columns: int, width: int
) -> Chart:
    words = alt.Axis(labelExpr="format(abs(datum.value), '.2~%')", tickCount=3, title=None)
    short = axis_label([own.name for own in shown], wide=10, narrow=10)
    names = alt.Axis(title=None, labelAngle=-90, ticks=False, domain=False, labelExpr=short)
    colour = alt.Color(
        "way:N",
        scale=alt.Scale(domain=[LOST, WON], range=[LOSS, GAIN]),
        legend=way_legend(offset=16),
    )
    folded = (
        alt.Chart(alt.InlineData(values=counts))
        .transform_fold([LOST, WON], as_=["way", "count"])
        .transform_calculate(bar=f"(datum.way == '{LOST}' ? -1 : 1) * datum.count / datum.n")
    )
    cell = folded.mark_bar().encode(
        x=alt.X("run:N", sort=[own.name for own in shown], axis=names),
        y=alt.Y("bar:Q", axis=words),
        color=colour,
        tooltip=[
            alt.Tooltip("task:N"),
            alt.Tooltip("run:N"),
            alt.Tooltip("way:N", title="answers"),
            alt.Tooltip("count:Q", format=","),
            alt.Tooltip("n:Q", title="of", format=","),
        ],
    )
    room = width // 6  # characters of the header's font
    header = alt.Header(labelLimit=width, labelExpr=axis_label(tasks, wide=room, narrow=room))
    drawn: alt.FacetChart = cell.properties(width=width, height=64).facet(
        facet=alt.Facet("task:N", sort=list(tasks), title=None, header=header),
        columns=columns,
        spacing={"row": 10, "column": 12},
    )
    return drawn


def _caption(
    counts: Sequence[Datum], tasks: Sequence[str], kept: Sequence[str], shown: Sequence[ShownRun]
) -> str:
    own = [one for one in counts if one["task"] == kept[0]]
    lost, won = (sum(one[way] for one in own) for way in (LOST, WON))
    which = f"{len(kept)} of {len(tasks)}" if len(kept) < len(tasks) else f"all {len(tasks)}"
    return (
        f"{which[0].upper()}{which[1:]} tasks, those with the most flips first: in {kept[0]} "
        f"{count_words(len(shown), 'run')} lose {lost:,} answers together and win {won:,}"
    )
