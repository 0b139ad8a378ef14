"""Change of probability: medians and counts by numpy and scipy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_probability_change
from lm_eval_flips.report.charts.probability import probability_changes
from tests.report.charts.raw import answers, closest, layers, pooled, rows_with


def test_every_sample_has_its_change(single: Comparison, several_runs: list[Path]) -> None:
    """Margins and changes of 720 samples, against scipy's softmax of the logs."""
    own = pooled(answers(*several_runs[:2]))
    margins, changes = probability_changes(single.compressed[0])
    assert margins == pytest.approx(own.margin, abs=1e-9)
    assert changes == pytest.approx(own.probability_change, abs=1e-9)
    assert (changes > 0).any()
    assert (changes < 0).any()


def test_quantiles_are_numpys_in_each_bin(several: Comparison, several_runs: list[Path]) -> None:
    """Median, 5 % and 95 % of each of twenty bins of the margin, for each run."""
    rows = rows_with(plot_probability_change(several), "median", "p95")
    names = list(dict.fromkeys(row["run"] for row in rows))
    for name, run in zip(names, closest(several_runs), strict=True):
        own = pooled(answers(several_runs[0], run))
        for row in (row for row in rows if row["run"] == name):
            inside = np.abs(own.margin - row["margin"]) <= 0.025
            assert row["n"] == inside.sum()
            expected = np.quantile(own.probability_change[inside], [0.05, 0.5, 0.95])
            drawn = [row["p5"], row["median"], row["p95"]]
            assert drawn == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_density_of_a_single_run_counts_every_sample_once(
    single: Comparison, several: Comparison
) -> None:
    """The cells add up to the samples; several runs have no density."""
    cells = rows_with(plot_probability_change(single), "x2", "y2")
    assert sum(cell["n"] for cell in cells) == 720
    assert all(layer.mark != "rect" for layer in layers(plot_probability_change(several)))


def test_generated_text_has_no_probabilities(generative: Comparison) -> None:
    """The error says what is needed."""
    with pytest.raises(FlipsError, match="needs tasks with choices"):
        plot_probability_change(generative)
