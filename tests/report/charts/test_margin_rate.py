"""Change rate against top margin: bins by numpy, intervals by statsmodels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_margin_rate
from lm_eval_flips.report.charts.margin_rate import margin_rate_chart
from tests.report.charts.raw import answers, closest, layers, pooled


def test_each_bin_is_counted_from_the_logs(several: Comparison, several_runs: list[Path]) -> None:
    """Samples and changes in ten bins of four runs, about Wilson's interval, as strata give it."""
    rows = layers(plot_margin_rate(several))[-1].rows
    names = list(dict.fromkeys(row["run"] for row in rows))
    for name, run in zip(names, closest(several_runs), strict=True):
        own = pooled(answers(several_runs[0], run))
        totals, edges = np.histogram(own.margin, bins=10, range=(0, 1))
        moved, _ = np.histogram(own.margin[own.changed], bins=10, range=(0, 1))
        bins = [row for row in rows if row["run"] == name]
        assert sum(row["n"] for row in bins) == len(own.gold)
        for row in bins:
            place = int(np.searchsorted(edges, row["margin"])) - 1
            assert (row["n"], row["changed"]) == (totals[place], moved[place])
            low, high = proportion_confint(row["changed"], row["n"], method="wilson")
            assert row["share_low"] == pytest.approx(low, abs=0.02)
            assert row["share_high"] == pytest.approx(high, abs=0.02)


def test_empty_bins_are_not_drawn(one_sample: Comparison) -> None:
    """One question is one point, in the bin of its margin, 0.46."""
    (row,) = layers(plot_margin_rate(one_sample))[-1].rows
    assert (row["low"], row["high"], row["n"], row["share"]) == (0.4, 0.5, 1, 1.0)


def test_the_caption_tells_both_ends(single: Comparison, several_runs: list[Path]) -> None:
    """The share that changed where the baseline was unsure, and the number of samples there."""
    own = pooled(answers(*several_runs[:2]))
    unsure = own.margin < 0.1
    named = margin_rate_chart(single)
    assert named is not None
    assert f"{100 * own.changed[unsure].mean():.1f} % of the answers change where" in named.caption
    assert f"(n = {unsure.sum()})" in named.caption


def test_without_choices_there_is_no_margin(generative: Comparison) -> None:
    """Generated text has none."""
    with pytest.raises(FlipsError, match="needs tasks with choices"):
        plot_margin_rate(generative)
