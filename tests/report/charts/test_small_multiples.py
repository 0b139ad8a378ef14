"""One small picture a task: the counts of each, the most flipped first."""

from __future__ import annotations

from pathlib import Path

import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_small_multiples
from lm_eval_flips.report.charts.losses_gains import LOST, WON
from lm_eval_flips.report.charts.small_multiples import small_multiples_chart
from tests.report.charts.raw import answers, closest, rows_with


def test_each_picture_has_its_tasks_counts(several: Comparison, several_runs: list[Path]) -> None:
    """Losses and gains of nine tasks and four runs."""
    rows = rows_with(plot_small_multiples(several), "task", LOST, WON)
    names = list(dict.fromkeys(row["run"] for row in rows))
    assert len(rows) == 9 * 4
    for name, run in zip(names, closest(several_runs), strict=True):
        for task, own in answers(several_runs[0], run).items():
            short = task.removeprefix("mmlu_").replace("_", " ")
            (row,) = [row for row in rows if (row["run"], row["task"]) == (name, short)]
            assert (row[LOST], row[WON], row["n"]) == (own.lost, own.won, len(own.gold))


def test_57_tasks_fit_a_telephone_too(many_tasks: Comparison) -> None:
    """All are drawn, in the order of their flips; the narrow chart has half the columns."""
    named = small_multiples_chart(many_tasks)
    assert named is not None
    assert named.narrow is not None
    wide, narrow = named.chart.to_dict(), named.narrow.to_dict()
    assert (wide["columns"], narrow["columns"]) == (6, 3)
    rows = rows_with(named.chart, LOST)

    def volume(task: str) -> float:
        return float(sum((r[LOST] + r[WON]) / r["n"] for r in rows if r["task"] == task))

    order = wide["facet"]["sort"]
    assert len(order) == 57
    assert [volume(task) for task in order] == sorted(map(volume, order), reverse=True)
    assert "All 57 tasks" in named.caption


def test_a_single_run_has_them_all_in_one_chart(single: Comparison) -> None:
    """The losses and gains of one run are a list, not small multiples."""
    with pytest.raises(FlipsError, match="needs two runs and eight tasks"):
        plot_small_multiples(single)
