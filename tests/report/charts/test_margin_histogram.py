"""Margins of correct and incorrect answers: counts by numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_margin_histogram
from lm_eval_flips.report.charts.margin_histogram import margin_histogram_chart
from tests.report.charts.raw import answers, layers, pooled


def test_bars_and_means_are_counted_from_the_logs(
    several: Comparison, several_runs: list[Path]
) -> None:
    """Twenty bins of each kind of answer, in shares of that kind; rules at the means."""
    own = pooled(answers(*several_runs[:2]))
    bars, means = layers(plot_margin_histogram(several))
    for name, kept in (("correct", own.correct[0]), ("incorrect", ~own.correct[0])):
        counts, edges = np.histogram(own.margin[kept], bins=20, range=(0, 1))
        drawn = {row["low"]: row for row in bars.rows if row["answers"] == name}
        for count, low in zip(counts, edges, strict=False):
            row = drawn.get(round(float(low), 5))
            assert (0 if row is None else row["count"]) == count
            if row is not None:
                assert row["n"] == kept.sum()
                assert row["share"] == pytest.approx(count / kept.sum(), rel=1e-4)
        (mean,) = [row["mean"] for row in means.rows if row["answers"] == name]
        assert mean == pytest.approx(own.margin[kept].mean(), rel=1e-4)


def test_a_kind_without_answers_is_left_out(one_sample: Comparison) -> None:
    """One correct answer: no bar and no mean of incorrect ones."""
    bars, means = layers(plot_margin_histogram(one_sample))
    assert {row["answers"] for row in bars.rows + means.rows} == {"correct"}
    named = margin_histogram_chart(one_sample)
    assert named is not None
    assert "incorrect" not in named.caption


def test_generated_text_has_no_margins(generative: Comparison) -> None:
    """The error says what is needed."""
    with pytest.raises(FlipsError, match="needs tasks with choices"):
        plot_margin_histogram(generative)
