"""Histogram of the samples' KL: counts by numpy, 0 and infinity at the ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_kl_histogram
from lm_eval_flips.report.charts.kl_histogram import (
    histogram,
    kl_histogram_chart,
    quantiles,
    sample_kl,
)
from lm_eval_flips.report.charts.log_axis import LogScale
from tests.report.charts.raw import answers, closest, layers, pooled


def test_bars_count_the_samples_of_the_logs(several: Comparison, several_runs: list[Path]) -> None:
    """Each quarter of a decade of each run; all samples are somewhere."""
    rows = layers(plot_kl_histogram(several))[-1].rows
    names = list(dict.fromkeys(row["run"] for row in rows))
    for name, run in zip(names, closest(several_runs), strict=True):
        kl = pooled(answers(several_runs[0], run)).kl
        bars = [row for row in rows if row["run"] == name]
        assert sum(bar["count"] for bar in bars) == len(kl)
        for bar in bars[1:-1]:
            inside = (kl >= 10 ** bar["edge"]) & (kl < 10 ** (bar["edge"] + 0.25))
            assert bar["count"] == inside.sum()
            assert bar["share"] == pytest.approx(bar["count"] / len(kl), rel=1e-4)


def test_zero_and_infinity_lie_in_the_end_bins() -> None:
    """Two zeros, one value inside, three infinite."""
    values = np.array([0.0, 0.0, 0.05, np.inf, np.inf, np.inf])
    bars = histogram("run", values, LogScale(low=-3.0, high=0.0))
    assert [bars[0]["count"], bars[-1]["count"]] == [2, 3]
    assert sum(bar["count"] for bar in bars) == 6
    assert (bars[0]["from"], bars[-1]["to"]) == (0, None)


def test_median_and_p99_are_the_rows(single: Comparison) -> None:
    """What the caption tells is what the pooled row holds."""
    row = single.compressed[0].pooled
    assert row.distances is not None
    found = quantiles(sample_kl(single.compressed[0], "choice_kl"), [0.5, 0.99])
    assert found == [row.distances.choice_kl.median, row.distances.choice_kl.p99]
    named = kl_histogram_chart(single)
    assert named is not None
    assert f"median {found[0]:.2g}, 99th percentile {found[1]:.2g} nats" in named.caption


def test_infinite_distances_are_counted(undefined: Comparison) -> None:
    """A choice that only the compressed run rules out is infinitely far, and said."""
    named = kl_histogram_chart(undefined)
    assert named is not None
    assert "3 infinite at the right end" in named.caption


def test_what_was_not_measured_is_said(single: Comparison, generative: Comparison) -> None:
    """No distances over the vocabulary here, and none over choices of generated text."""
    with pytest.raises(FlipsError, match="this chart needs token_kl"):
        plot_kl_histogram(single, distance="token_kl")
    assert kl_histogram_chart(generative) is None
