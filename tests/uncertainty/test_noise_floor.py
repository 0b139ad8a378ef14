"""The noise floor: excesses against scipy on the samples' own differences, and runs that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips import Comparison, FlipsError, compare
from lm_eval_flips.comparison.numbers import HELD
from lm_eval_flips.measures.paired_difference import mover
from lm_eval_flips.report.files.document import to_json
from lm_eval_flips.uncertainty.noise_floor import excesses
from tests.generators import logs
from tests.generators.paired import Questions, questions
from tests.report.text.test_table import printed, row_of

N = 200


def written(folder: Path, asked: Questions, side: str, **options: Any) -> Path:
    """A run of these questions, with five choices each at most."""
    scores = getattr(asked, side)
    records = [
        logs.choice(i, [float(x) for x in row if np.isfinite(x)], gold=int(asked.gold[i]))
        for i, row in enumerate(scores)
    ]
    return logs.write_run(folder, {"task": records}, **options)


@pytest.fixture(scope="module")
def far() -> Questions:
    """A compressed model that moved far."""
    return questions(5, N, noise=1.5)


@pytest.fixture(scope="module")
def near(far: Questions) -> Questions:
    """The same baseline against itself, rounded otherwise: some close answers change."""
    noise = np.random.default_rng(1).normal(0, 0.15, far.baseline.shape)
    return Questions(far.baseline, far.baseline + noise, far.gold)


def compared(folder: Path, far: Questions, near: Questions, **options: Any) -> Comparison:
    """The far run against the baseline, with the near one as its floor."""
    base = written(folder / "base", far, "baseline")
    floor = written(folder / "again", near, "compressed", date=logs.LATER)
    int4 = written(folder / "int4", far, "compressed", model="org/int4")
    return compare(base, int4, noise_floor=floor, metric="acc", **options)


def test_the_excess_is_the_mean_of_the_paired_differences(
    tmp_path: Path, far: Questions, near: Questions
) -> None:
    """KL: Student's t of the differences; flips: the interval of a share that is measured twice."""
    row = compared(tmp_path, far, near).compressed[0].pooled
    difference = far.kl - near.kl
    found = row.excess["choice_kl"]
    assert (found.value, found.floor) == pytest.approx((far.kl.mean(), near.kl.mean()), rel=1e-6)
    assert found.excess == pytest.approx(difference.mean(), rel=1e-6)
    ends = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((ends.low, ends.high), rel=1e-5)
    for name in ("flips", "all_flips"):
        found = row.excess[name]
        difference = far.indicators[name] - near.indicators[name]
        assert found.excess == pytest.approx(difference.mean(), abs=1e-12)
        expected = mover(lost=int((difference < 0).sum()), won=int((difference > 0).sum()), n=N)
        assert found.interval == pytest.approx(expected, abs=1e-12)
        assert found.n == N


def test_pairing_makes_the_interval_of_common_noise_narrow(tmp_path: Path, far: Questions) -> None:
    """Control: a floor that moves as the compressed run does leaves less than independent runs."""
    finite = np.isfinite(far.baseline)
    moved = np.subtract(far.compressed, far.baseline, where=finite, out=np.zeros_like(far.baseline))
    twin = Questions(far.baseline, far.baseline + 0.98 * moved, far.gold)
    row = compared(tmp_path, far, twin).compressed[0].pooled
    low, high = row.excess["choice_kl"].interval
    unpaired = 2 * 1.97 * np.sqrt(far.kl.var() / N + twin.kl.var() / N)
    assert high - low < 0.2 * unpaired


def test_a_far_run_is_beyond_the_floor_and_a_near_one_within(
    tmp_path: Path, far: Questions, near: Questions
) -> None:
    """In the row, in the words below the table and in the JSON."""
    comparison = compared(tmp_path, far, near)
    row = comparison.compressed[0].pooled
    assert not any(found.within_floor for found in row.excess.values())
    assert comparison.noise_floor is not None
    text = printed(comparison, width=10_000)
    assert row_of(text, "noise floor ", f"{N} samples, flips")
    line = row_of(text, "beyond the noise floor:")
    assert "not told apart" not in line
    document = json.loads(to_json(comparison))
    assert document["noise_floor"]["pooled"]["n"] == N
    found = document["compressed"][0]["pooled"]["excess"]["choice_kl"]
    assert found["within_floor"] is False
    assert found["excess"] == pytest.approx(found["value"] - found["floor"])


def test_another_second_run_is_within_the_floor(
    tmp_path: Path, far: Questions, near: Questions
) -> None:
    """A compressed run that only rounds otherwise, as the floor does.

    Of KL the whole interval, scipy's, lies below the floor itself; flips are too few to say that.
    """
    noise = np.random.default_rng(2).normal(0, 0.15, far.baseline.shape)
    quiet = Questions(far.baseline, far.baseline + noise, far.gold)
    comparison = compared(tmp_path, quiet, near)
    row = comparison.compressed[0].pooled
    assert all(found.within_floor for found in row.excess.values())
    text = printed(comparison, width=10_000)
    line = row_of(text, "beyond the noise floor:")
    ends = stats.ttest_1samp(quiet.kl - near.kl, 0).confidence_interval(0.95)
    assert ends.low <= 0 < ends.high < near.kl.mean()
    assert line.endswith("at most twice the noise floor")
    assert row.excess["flips"].interval.high > near.indicators["flips"].mean()
    assert row.excess["all_flips"].interval.high > near.indicators["all_flips"].mean()
    assert line.count(f"not told apart from it (n = {N})") == 2


def test_a_floor_that_did_not_move_at_all_is_one_too(tmp_path: Path, far: Questions) -> None:
    """Two runs that agree in every digit: no error, and a floor of 0."""
    same = Questions(far.baseline, far.baseline, far.gold)
    row = compared(tmp_path, far, same).compressed[0].pooled
    assert row.excess["flips"].floor == 0.0
    assert row.excess["choice_kl"].floor == 0.0
    assert not row.excess["choice_kl"].within_floor


@pytest.mark.simulation
def test_false_alarms_are_rare_where_nothing_but_noise_is_there() -> None:
    """150 pairs of noisy runs: the excess of KL is called real in at most 2.5 %, as one-sided."""
    rng = np.random.default_rng(3)
    alarms = {"flips": 0, "choice_kl": 0}
    for draw in range(150):
        base = questions(draw, 100)
        sides = [
            Questions(base.baseline, base.baseline + rng.normal(0, 0.5, (100, 5)), base.gold)
            for _ in range(2)
        ]
        found = excesses([sides[0].paired()], [sides[1].paired()], HELD)
        for name in alarms:
            alarms[name] += not found[name].within_floor
    for name, count in alarms.items():
        assert count / 150 <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 150), name


def test_the_floor_s_settings_are_told(tmp_path: Path, far: Questions, near: Questions) -> None:
    """What was changed to make it noisy stands among the settings that differ."""
    base = written(tmp_path / "base", far, "baseline")
    floor = written(tmp_path / "again", near, "compressed", date=logs.LATER, max_length=1024)
    int4 = written(tmp_path / "int4", far, "compressed", model="org/int4")
    found = compare(base, int4, noise_floor=floor).settings_that_differ
    assert [(d.setting, d.run) for d in found] == [("max_length", str(floor))]


def test_a_floor_of_another_model_is_refused(
    tmp_path: Path, far: Questions, near: Questions
) -> None:
    """Another model, or the baseline itself, tells nothing of noise."""
    base = written(tmp_path / "base", far, "baseline")
    int4 = written(tmp_path / "int4", far, "compressed", model="org/int4")
    with pytest.raises(FlipsError, match="is no second run of the baseline: its model is org/int4"):
        compare(base, int4, noise_floor=int4)
    with pytest.raises(FlipsError, match="is the baseline itself; run the baseline a second time"):
        compare(base, int4, noise_floor=base)


def test_tasks_without_a_floor_have_no_excess(
    tmp_path: Path, far: Questions, near: Questions
) -> None:
    """The floor was run on one of two tasks: the other, and the pool, are left without."""
    more = [logs.choice(i, [-1.0, -2.0], question=f"more {i}") for i in range(9)]
    paths = []
    for name, asked, side in (("base", far, "baseline"), ("int4", far, "compressed")):
        rows = getattr(asked, side)
        records = [
            logs.choice(i, [float(x) for x in row if np.isfinite(x)], gold=int(asked.gold[i]))
            for i, row in enumerate(rows)
        ]
        paths.append(logs.write_run(tmp_path / name, {"task": records, "more": more}))
    records = [
        logs.choice(i, [float(x) for x in row if np.isfinite(x)], gold=int(near.gold[i]))
        for i, row in enumerate(near.compressed)
    ]
    again = {"task": records, "elsewhere": more}
    floor = logs.write_run(tmp_path / "again", again, date=logs.LATER)
    run = compare(*paths, noise_floor=floor, metric="acc").compressed[0]
    found = {row.name: bool(row.excess) for row in (*run.tasks, run.pooled)}
    assert found == {"more": False, "task": True, "pooled": False}
    assert printed(compare(*paths, metric="acc"))
