"""Flips against score change: every point counted again from the logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_flips
from lm_eval_flips.report.charts.flips import ALL_TASKS, flip_points, flips_chart
from lm_eval_flips.report.charts.task_rows import task_rows
from tests.report.charts.raw import answers, layers, pooled


def test_each_point_is_what_the_logs_say(several: Comparison, several_runs: list[Path]) -> None:
    """Flips and score change of every task and run, and of the pools; four runs, nine tasks."""
    names = [run.model.rsplit("Llama-7b-", 1)[1] for run in several.compressed]
    points = {(point["run"], point["task"]): point for point in flip_points(several)}
    assert len(points) == 4 * (9 + 1)
    for name, run in zip(names, several_runs[1:], strict=True):
        found = answers(several_runs[0], run)
        whole = {task.removeprefix("mmlu_").replace("_", " "): own for task, own in found.items()}
        for task, own in {**whole, ALL_TASKS: pooled(found)}.items():
            point = points[name, task]
            assert point["n"] == len(own.gold)
            assert point["flips"] == pytest.approx((own.lost + own.won) / len(own.gold), rel=1e-4)
            change = (own.won - own.lost) / len(own.gold)
            assert point["change"] == pytest.approx(change, abs=1e-6)


def test_intervals_are_those_of_the_rows(single: Comparison) -> None:
    """Both intervals of each task, to the digits that are drawn; a control: they differ."""
    points = [point for point in flip_points(single) if point["task"] != ALL_TASKS]
    for point, task in zip(points, task_rows(single.compressed[0]), strict=True):
        for field, name in (("change", "score_change"), ("flips", "flips")):
            low, high = task.row.intervals[name]
            assert point[f"{field}_low"] == pytest.approx(low, rel=1e-4)
            assert point[f"{field}_high"] == pytest.approx(high, rel=1e-4)
    assert len({point["flips_low"] for point in points}) > 1


def test_the_chart_draws_the_points(single: Comparison) -> None:
    """The rows of the marks are the points, the pool apart; the rules end at the intervals."""
    points = flip_points(single)
    marks = [layer for layer in layers(plot_flips(single)) if layer.mark == "point"]
    assert [row for layer in marks for row in layer.rows] == points
    rules = [layer for layer in layers(plot_flips(single)) if layer.mark == "rule"]
    assert rules[0].encoding["x2"]["field"] == "change_high"
    assert rules[1].encoding["y2"]["field"] == "flips_high"


def test_the_caption_says_the_numbers_of_the_most_changed_run(several: Comparison) -> None:
    """Of four runs the one with most flips is told, with its score change."""
    named = flips_chart(several)
    assert named is not None
    rows = [run.pooled for run in several.compressed]
    most = max(rows, key=lambda row: row.flips.flips if row.flips else 0)
    assert most.flips is not None
    assert f"{100 * most.flips.flips:.1f} % of the answers flip" in named.caption
    assert f"{100 * most.score_change:+.2f} points" in named.caption
    assert "720 samples of 9 tasks" in named.caption


def test_generated_answers_flip_too(generative: Comparison) -> None:
    """3 of 10 lost and 1 won; a single task has no pool."""
    (point,) = flip_points(generative)
    assert (point["flips"], point["change"]) == (0.4, -0.2)


def test_nothing_to_draw_is_said(perplexity: Comparison) -> None:
    """Perplexities have no flips."""
    assert flips_chart(perplexity) is None
    with pytest.raises(FlipsError, match="this chart needs answers that are right or wrong"):
        plot_flips(perplexity)
