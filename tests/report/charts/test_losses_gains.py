"""Losses beside gains: counted from the logs, signed the right way."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_losses_gains
from lm_eval_flips.report.charts.labelled_rows import MOST_ROWS
from lm_eval_flips.report.charts.losses_gains import LOST, WON, losses_gains_chart
from tests.report.charts.raw import answers, pooled, rows_with


def test_bars_are_the_counted_losses_and_gains(
    single: Comparison, several_runs: list[Path]
) -> None:
    """Losses to the left, gains to the right, for nine tasks and all of them."""
    found = answers(*several_runs[:2])
    short = {task.removeprefix("mmlu_").replace("_", " "): own for task, own in found.items()}
    bars = rows_with(plot_losses_gains(single), "bar", "way")
    assert len(bars) == 2 * 10
    for bar in bars:
        own = {**short, "all tasks": pooled(found)}[bar["label"]]
        count = own.lost if bar["way"] == LOST else own.won
        sign = -1 if bar["way"] == LOST else 1
        assert (bar["count"], bar["n"]) == (count, len(own.gold))
        assert bar["bar"] == pytest.approx(sign * count / len(own.gold), rel=1e-4)


def test_the_net_tick_is_the_score_change(single: Comparison) -> None:
    """Won minus lost is what the score changed; whiskers end at the interval, on their side."""
    chart = plot_losses_gains(single)
    nets = {row["label"]: row["net"] for row in rows_with(chart, "net")}
    pooled_row = single.compressed[0].pooled
    assert nets["all tasks"] == pytest.approx(pooled_row.score_change, rel=1e-3)
    (bar,) = [
        row
        for row in rows_with(chart, "bar", "way")
        if row["label"] == "all tasks" and row["way"] == LOST
    ]
    low, high = pooled_row.intervals["correct_to_incorrect_share"]
    assert (bar["low_at"], bar["high_at"]) == pytest.approx((-low, -high), rel=1e-4)


def test_several_runs_stand_below_each_other(several: Comparison) -> None:
    """Forty rows: four runs of nine tasks, and the pools last."""
    bars = rows_with(plot_losses_gains(several), "bar", "way")
    labels = list(dict.fromkeys(bar["label"] for bar in bars))
    assert len(labels) == 40
    assert labels[:2] == ["abstract algebra, int8", "abstract algebra, awq-w4a16"]
    assert labels[-4:] == [
        f"all tasks, {run}" for run in ("int8", "awq-w4a16", "gptq-w4a16", "nf4")
    ]


def test_too_many_rows_are_the_runs_pools(many_tasks: Comparison) -> None:
    """57 tasks of two runs do not fit: their pools, and it is said."""
    named = losses_gains_chart(many_tasks)
    assert named is not None
    assert MOST_ROWS < 57 * 2
    bars = rows_with(named.chart, "bar", "way")
    assert [(bar["label"], bar["way"]) for bar in bars] == [
        ("int8", LOST),
        ("int8", WON),
        ("nf4", LOST),
        ("nf4", WON),
    ]
    assert "57 tasks pooled" in named.caption


def test_perplexities_have_no_losses(perplexity: Comparison) -> None:
    """The error says what is needed."""
    with pytest.raises(FlipsError, match="needs answers that are right or wrong"):
        plot_losses_gains(perplexity)
