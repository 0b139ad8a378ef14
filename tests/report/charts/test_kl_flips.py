"""KL against flips: means and correlations against scipy's."""

from __future__ import annotations

from pathlib import Path

import pytest
from scipy import stats

from lm_eval_flips import Comparison, FlipsError
from lm_eval_flips.report.charts import plot_kl_flips
from lm_eval_flips.report.charts.kl_flips import kl_flips_chart, kl_points
from tests.report.charts.raw import answers, closest, layers, pooled


def test_a_run_is_a_point_where_there_are_three(
    several: Comparison, several_runs: list[Path]
) -> None:
    """Mean KL and flips of each of four runs, which are too few for a rank correlation."""
    points = kl_points(several, "choice_kl")
    assert [point["task"] for point in points] == ["all tasks"] * 4
    expected = [pooled(answers(several_runs[0], run)) for run in closest(several_runs)]
    for point, own in zip(points, expected, strict=True):
        assert point["kl"] == pytest.approx(own.kl.mean(), rel=1e-4)
        assert point["flips"] == pytest.approx((own.lost + own.won) / len(own.gold), rel=1e-4)
    named = kl_flips_chart(several)
    assert named is not None
    assert "Over 4 compressed runs there is no rank correlation" in named.caption


def test_a_task_is_a_point_of_a_single_run(single: Comparison, several_runs: list[Path]) -> None:
    """Nine tasks, and the correlation over them with its interval."""
    points = kl_points(single, "choice_kl")
    found = answers(*several_runs[:2])
    for point, own in zip(points, found.values(), strict=True):
        assert point["kl"] == pytest.approx(own.kl.mean(), rel=1e-4)
        assert point["flips"] == pytest.approx((own.lost + own.won) / len(own.gold), abs=1e-5)
    rho = stats.spearmanr(
        [point["kl"] for point in points], [point["flips"] for point in points]
    ).statistic
    named = kl_flips_chart(single)
    assert named is not None
    assert f"Over 9 tasks of nf4 choice KL and flips have a Spearman correlation of {rho:.2f}" in (
        named.caption
    )
    assert "95 % interval" in named.caption


def test_points_lie_at_the_logarithm_of_their_kl(single: Comparison) -> None:
    """10 to the place is the KL, within the digits drawn."""
    drawn = layers(plot_kl_flips(single))[-1].rows
    assert len(drawn) == 9
    for row in drawn:
        assert 10 ** row["at"] == pytest.approx(row["kl"], rel=1e-3)
        assert row["kl_low_at"] < row["at"] < row["kl_high_at"]


def test_one_point_is_no_chart_and_a_missing_distance_is_said(
    one_sample: Comparison, single: Comparison
) -> None:
    """A single task cannot show a relation; nothing was measured over the vocabulary."""
    assert kl_flips_chart(one_sample) is None
    with pytest.raises(FlipsError, match="needs token_kl and flips of two runs or tasks"):
        plot_kl_flips(single, distance="token_kl")
