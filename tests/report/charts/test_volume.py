"""Volume against direction, and the noise floor."""

from __future__ import annotations

from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.report.charts import plot_volume_direction
from lm_eval_flips.report.charts.volume import direction_points, volume_chart
from tests.generators import logs
from tests.report.charts.raw import answers, closest, pooled, rows_with

RIGHT, WRONG = [-1.0, -2.0, -3.0], [-2.0, -1.0, -3.0]


def test_points_are_counted_from_the_logs(several: Comparison, several_runs: list[Path]) -> None:
    """Flips and the share of losses of each run's pool; tasks with five flips or more beside."""
    points = direction_points(several)
    pools = [point for point in points if point["task"] == "all tasks"]
    for point, run in zip(pools, closest(several_runs), strict=True):
        own = pooled(answers(several_runs[0], run))
        assert (point["lost"], point["won"]) == (own.lost, own.won)
        assert point["flips"] == pytest.approx((own.lost + own.won) / 720, rel=1e-4)
        assert point["loss"] == pytest.approx(own.lost / (own.lost + own.won), rel=1e-4)
    tasks = [point for point in points if point["task"] != "all tasks"]
    assert tasks
    assert all(point["lost"] + point["won"] >= 5 for point in tasks)
    enough = sum(
        own.lost + own.won >= 5
        for run in closest(several_runs)
        for own in answers(several_runs[0], run).values()
    )
    assert len(tasks) == enough < 36


def test_the_noise_floor_is_drawn_with_its_interval(tmp_path: Path) -> None:
    """One of 20 flips between two runs of the baseline: 5 %, and Wilson's interval of it."""
    rows = {"base": [], "again": [0], "int4": [0, 1, 2, 3]}
    paths = {
        name: logs.write_run(
            tmp_path / name,
            {"task": [logs.choice(i, WRONG if i in flipped else RIGHT) for i in range(20)]},
            model="org/base" if name == "again" else f"org/{name}",
        )
        for name, flipped in rows.items()
    }
    comparison = compare(paths["base"], paths["int4"], noise_floor=paths["again"], metric="acc")
    (floor,) = rows_with(plot_volume_direction(comparison), "floor", "low")
    low, high = proportion_confint(1, 20, method="wilson")
    assert floor["floor"] == 0.05
    assert (floor["low"], floor["high"]) == pytest.approx((low, high), rel=1e-3)
    named = volume_chart(comparison)
    assert named is not None
    assert "a second run of the baseline 5.0 % of 20" in named.caption
    without = plot_volume_direction(compare(paths["base"], paths["int4"], metric="acc"))
    assert "noise floor" not in str(without.to_dict())


def test_without_a_flip_there_is_no_direction(undefined: Comparison) -> None:
    """Nothing flipped: the error says so."""
    with pytest.raises(FlipsError, match="needs answers that flipped"):
        plot_volume_direction(undefined)
