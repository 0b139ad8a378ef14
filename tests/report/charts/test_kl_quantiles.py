"""Quantiles of the KL of each task: numpy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_kl_quantiles
from lm_eval_flips.report.charts.kl_quantiles import QUANTILES, kl_quantiles_chart
from tests.report.charts.raw import answers, layers, pooled


def test_quantiles_are_numpys_of_the_logs(single: Comparison, several_runs: list[Path]) -> None:
    """Six quantiles and the mean of nine tasks and all; each lies at its logarithm."""
    found = answers(*several_runs[:2])
    short = {task.removeprefix("mmlu_").replace("_", " "): own for task, own in found.items()}
    rows = layers(plot_kl_quantiles(single))[0].rows
    assert len(rows) == 10
    for row in rows:
        own = {**short, "all tasks": pooled(found)}[row["label"]]
        drawn = [row[name] for name in QUANTILES]
        assert drawn == pytest.approx(np.quantile(own.kl, list(QUANTILES.values())), rel=1e-3)
        assert row["mean"] == pytest.approx(own.kl.mean(), rel=1e-4)
        assert 10 ** row["median_at"] == pytest.approx(row["median"], rel=1e-3)


def test_infinite_quantiles_lie_at_the_end(undefined: Comparison) -> None:
    """A task whose samples are all infinitely far has no numbers, but a place."""
    named = kl_quantiles_chart(undefined)
    assert named is not None
    rows = {row["label"]: row for row in layers(named.chart)[0].rows}
    assert rows["ruled"]["median"] is None
    assert rows["ruled"]["median_at"] > rows["quiet"]["p99_at"]
    assert "infinite ones lie at the right end" in named.caption


def test_too_many_rows_are_pools(many_tasks: Comparison) -> None:
    """57 tasks of two runs: two rows, and it is said."""
    named = kl_quantiles_chart(many_tasks)
    assert named is not None
    assert [row["label"] for row in layers(named.chart)[0].rows] == ["int8", "nf4"]
    assert "57 tasks pooled" in named.caption


def test_what_was_not_measured_is_said(generative: Comparison) -> None:
    """Generated text has no distances over choices."""
    with pytest.raises(FlipsError, match="this chart needs choice_kl"):
        plot_kl_quantiles(generative)
