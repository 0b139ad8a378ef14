"""Losses beside gains, task by task: flips that cancel in the score."""

from __future__ import annotations

import altair as alt

from lm_eval_flips.comparison.result import Comparison, Row
from lm_eval_flips.report.charts.labelled_rows import ROW, LabelledRow, labelled_rows
from lm_eval_flips.report.charts.labels import axis_label
from lm_eval_flips.report.charts.marks import (
    Datum,
    base,
    between,
    count_words,
    ends,
    layered,
    number,
)
from lm_eval_flips.report.charts.named_chart import Chart, NamedChart, chart_of, finished
from lm_eval_flips.report.charts.shown_runs import ShownRun, shown_runs
from lm_eval_flips.report.charts.theme import GAIN, LOSS, NARROW

LOST, WON = "correct → incorrect", "incorrect → correct"


def plot_losses_gains(comparison: Comparison) -> Chart:
    """Correct→incorrect (to the left) beside incorrect→correct (to the right), % of samples.

    A row for each task and run, ticks at the net change. Where that is too many, the tasks with
    the most flips of a single run, or the runs' pools.

    Raises:
        FlipsError: no task is scored as right or wrong.

    Example:
        >>> plot_losses_gains(comparison).save("losses.svg")  # doctest: +SKIP
    """
    return chart_of(losses_gains_chart(comparison), needs="answers that are right or wrong")


def losses_gains_chart(comparison: Comparison) -> NamedChart | None:
    """``plot_losses_gains`` with its caption; None where there is nothing to draw."""
    shown = shown_runs(comparison)
    rows, note = labelled_rows(
        comparison,
        shown,
        of_task=lambda task: task.row if task.row.flips is not None else None,
        pooled=lambda run: run.run.pooled,
        size=_flips,
        largest="most flips",
    )
    if not rows:
        return None
    return finished(
        _drawn(rows),
        slug="losses-gains",
        title="Lost and won answers by task",
        caption=_caption(shown, f"; {note}" if note else ""),
    )


def _flips(row: Row) -> float:
    return row.flips.flips if row.flips is not None else 0.0


def _bars(run: str, label: str, row: Row) -> list[Datum]:
    flips = row.flips
    if flips is None:
        return []
    bars = []
    for way, count, name, sign in (
        (LOST, flips.correct_to_incorrect, "correct_to_incorrect_share", -1),
        (WON, flips.incorrect_to_correct, "incorrect_to_correct_share", 1),
    ):
        share = flips.share(count)
        interval = ends(row.intervals.get(name), "share_low", "share_high")
        bars.append(
            {
                "label": label,
                "run": run,
                "way": way,
                "count": count,
                "n": flips.n,
                "share": number(share),
                **interval,
                "bar": number(sign * share),
                **{f"{end}_at": sign * interval[f"share_{end}"] for end in LOW_HIGH if interval},
            }
        )
    return bars


LOW_HIGH = ("low", "high")


def _drawn(rows: list[LabelledRow[Row]]) -> Chart:
    bars = [bar for row in rows for bar in _bars(row.run, row.label, row.value)]
    nets = [
        {"label": row.label, "net": number(_net(row.value)), "n": row.value.flips.n}
        for row in rows
        if row.value.flips is not None
    ]
    order = [row.label for row in rows]
    names = alt.Axis(grid=False, labelOverlap=False, labelExpr=axis_label(order))
    y = alt.Y("label:N", sort=order, title=None, axis=names)
    words = alt.Axis(labelExpr="format(abs(datum.value), '.2~%')", tickCount=5)
    x = alt.X("bar:Q", title="← lost  |  % of samples  |  won →", axis=words)
    colour = alt.Color(
        "way:N",
        scale=alt.Scale(domain=[LOST, WON], range=[LOSS, GAIN]),
        legend=way_legend(),
    )
    chart = base(bars)
    chart = chart.transform_calculate(**between("interval", "share_low", "share_high", ".2%"))
    filled = chart.mark_bar(height={"band": 0.72}, opacity=0.85).encode(
        y=y,
        x=x,
        color=colour,
        tooltip=[
            alt.Tooltip("label:N", title="task"),
            alt.Tooltip("run:N"),
            alt.Tooltip("way:N", title="answers"),
            alt.Tooltip("count:Q", format=","),
            alt.Tooltip("n:Q", title="of", format=","),
            alt.Tooltip("share:Q", format=".2%"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    whiskers = base(bars).mark_rule(style="ink", opacity=0.45, strokeWidth=1)
    net = base(nets).mark_tick(style="ink", thickness=2.5, height={"band": 0.9}, opacity=1)
    return layered(
        filled,
        whiskers.encode(y=y, x="low_at:Q", x2="high_at:Q"),
        net.encode(
            y=y,
            x="net:Q",
            tooltip=[
                alt.Tooltip("label:N", title="task"),
                alt.Tooltip("net:Q", title="won minus lost", format="+.2%"),
                alt.Tooltip("n:Q", title="samples", format=","),
            ],
        ),
        height=ROW * len(order),
    )


def way_legend(offset: int = 8) -> alt.Legend:
    """The legend of losses and gains, one above the other on a telephone."""
    return alt.Legend(title=None, offset=offset, columns=alt.ExprRef(f"{NARROW} ? 1 : 2"))


def _net(row: Row) -> float:
    flips = row.flips
    if flips is None or not flips.n:
        return float("nan")
    return (flips.incorrect_to_correct - flips.correct_to_incorrect) / flips.n


def _caption(shown: tuple[ShownRun, ...], note: str) -> str:
    parts = []
    for own in shown[:3]:
        flips = own.run.pooled.flips
        if flips is not None:
            parts.append(
                f"{own.name} loses {count_words(flips.correct_to_incorrect, 'answer')} and wins "
                f"{flips.incorrect_to_correct:,} of {flips.n:,}"
            )
    rest = f" ({len(shown) - 3} more runs shown)" if len(shown) > 3 else ""
    return f"{', '.join(parts)}{rest}; ticks are the net change, lines 95 % intervals{note}."
