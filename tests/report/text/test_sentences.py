"""The lines above and below a table: every figure in them by hand or by scipy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lm_eval_flips import Comparison, compare
from lm_eval_flips.comparison.across_runs import regimes
from lm_eval_flips.comparison.result import RunComparison
from lm_eval_flips.report.text.across import across_lines
from lm_eval_flips.report.text.sentences import floor_lines, run_lines
from tests.comparison.test_across_runs import NOISE, perplexities, world
from tests.comparison.test_pooling import COUNTS, compared, fisher_by_outcomes, one_sided
from tests.generators import logs
from tests.pairs.test_clusters import tasks_of, written
from tests.report.text.test_table import printed, row_of


def line_of(run: RunComparison, start: str) -> str | None:
    """The run's line that begins so; None where there is none."""
    return next((line for line in run_lines(run) if line.startswith(start)), None)


# Losses


def test_the_loss_is_told_in_three_ways(tmp_path: Path) -> None:
    """One line of p over the tasks that changed, the task with the largest named."""
    run = compared(tmp_path, COUNTS)
    assert run.decisions is not None
    assert run.decisions.fisher == pytest.approx(fisher_by_outcomes(COUNTS), rel=0.02)
    assert line_of(run, "worse") == (
        f"worse than the baseline: one-sided p of all samples pooled {one_sided(24, 17):.4f}; "
        f"of the 3 tasks that changed, by Fisher {run.decisions.fisher:.4f}, by the largest loss "
        f"{run.decisions.largest:.4f} (arc)"
    )


def test_a_loss_beyond_four_decimals_is_not_shown_as_none(tmp_path: Path) -> None:
    """Forty lost and none won of each of two tasks."""
    run = compared(tmp_path, {"arc": (40, 0), "piqa": (40, 0)})
    line = line_of(run, "worse")
    assert line is not None
    assert line.count("< 0.0001") == 3
    assert "0.0000" not in line


def test_tasks_that_changed_are_named_by_holm(tmp_path: Path) -> None:
    """Statsmodels' adjusted p of those below 5 %; a gain is a change too."""
    counts = {"arc": (15, 2), "boolq": (6, 5), "piqa": (1, 13), "sciq": (9, 2)}
    run = compared(tmp_path, counts)
    raw = [stats.binomtest(lost, lost + won).pvalue for lost, won in counts.values()]
    expected = multipletests(raw, method="holm")[1]
    assert raw[3] > 0.05  # sciq
    assert line_of(run, "  changed") == (
        f"  changed at 5 % over all tasks (Holm): arc {expected[0]:.4f}, piqa {expected[2]:.4f}"
    )


def test_a_task_that_holm_clears_is_not_named(tmp_path: Path) -> None:
    """By itself below 5 %, over three tasks not: no line. Control: by itself it is one task of it."""
    counts = {"arc": (9, 1), "boolq": (3, 3), "piqa": (2, 3)}
    assert stats.binomtest(9, 10).pvalue < 0.05
    assert line_of(compared(tmp_path, counts), "  changed") is None
    counts["arc"] = (12, 1)
    assert line_of(compared(tmp_path / "more", counts), "  changed") is not None


def test_where_nothing_is_decided_nothing_is_said(tmp_path: Path) -> None:
    """A single task, or tasks of which none changed."""
    assert line_of(compared(tmp_path / "one", {"arc": (9, 1)}), "worse") is None
    quiet = compared(tmp_path / "none", {"arc": (0, 0), "piqa": (0, 0)})
    assert line_of(quiet, "worse") is None
    assert line_of(quiet, "  changed") is None


def test_tasks_without_a_test_of_their_own_leave_the_pool_s(tmp_path: Path) -> None:
    """Clustered by task each lies in one cluster: only the pooled samples have a p."""
    run = compare(*written(tmp_path, tasks_of((30, 40, 50))), cluster="task").compressed[0]
    assert line_of(run, "worse") == (
        f"worse than the baseline: one-sided p of all samples pooled {run.pooled.p_loss:.4f}"
    )


def test_many_changed_tasks_are_counted(tmp_path: Path) -> None:
    """Eight are named, the rest is a number."""
    run = compared(tmp_path, {f"task{i:02}": (25, 0) for i in range(11)})
    line = line_of(run, "  changed")
    assert line is not None
    assert line.count("task") == 1 + 8  # and "over all tasks"
    assert line.endswith("and 3 more")


# Regimes


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Eight compressed runs, of which four are near the baseline."""
    return compare(*world(3).paths(tmp_path_factory.mktemp("eight")), metric="acc")


def _spearman(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Scipy's correlation with Bonett and Wright's interval, as it is shown."""
    r, n = float(stats.spearmanr(xs, ys).statistic), len(xs)
    if n < 4 or abs(r) >= 1:
        return f"{r:.4f}"
    half = 1.959963984540054 * np.sqrt((1 + r**2 / 2) / (n - 3))
    low, high = np.tanh(np.arctanh(r) + np.array([-half, half]))
    return f"{r:.4f} [{low:.3f}, {high:.3f}]"


def test_kl_is_told_by_regime(eight: Comparison) -> None:
    """All runs, then those near: with flips and with the net loss, by scipy and by hand."""
    points = world(3).points()
    near = [point for point in points if point.kl < 0.02]
    expected = []
    for runs, own in (("all runs", points), ("runs with choice KL < 0.02", near)):
        kl = [point.kl for point in own]
        flips = _spearman(kl, [point.flips for point in own])
        loss = _spearman(kl, [point.loss for point in own])
        if len(own) < 5:
            few = "too few runs for a rank correlation, which takes 5"
            expected.append(f"choice KL over {runs} (n = {len(own)}): {few}")
            continue
        expected.append(
            f"choice KL over {runs} (n = {len(own)}), Spearman with flips {flips}, net loss {loss}"
        )
    assert list(across_lines(eight)) == expected[:1]  # no border unless one is given
    bordered = replace(eight, regimes=regimes(eight.compressed, near_kl=0.02))
    assert list(across_lines(bordered)) == expected
    text = printed(eight, width=10_000).splitlines()
    assert [line for line in text if line.startswith("choice KL over")] == expected[:1]
    assert len(points) == len(NOISE)


def test_an_empty_regime_has_dashes(eight: Comparison, tmp_path: Path) -> None:
    """No run below the border: n = 0, and no number."""
    found = compare(*world(3).paths(tmp_path), metric="acc", near_kl=0.0)
    assert list(across_lines(found))[1] == (
        "choice KL over runs with choice KL < 0 (n = 0): too few runs for a rank correlation, "
        "which takes 5"
    )
    assert list(across_lines(replace(eight, regimes=()))) == []


def test_runs_without_flips_are_counted_all_the_same(tmp_path: Path) -> None:
    """Perplexities: the net loss is of five runs, of which none has flips."""
    found = perplexities(tmp_path, (0.4, 0.1, -0.2, 0.9, 0.3), (0.3, 0.015, 0.01, 0.2, 0.1))
    (everywhere,) = across_lines(found)
    assert everywhere.startswith(
        "token KL over all runs (n = 5), Spearman with flips –, net loss 0."
    )


# Direction, equivalence, floor


def test_direction_and_equivalence_are_told_below_the_table(tmp_path: Path) -> None:
    """Losses among flips beside chance; a verdict in a sentence, with its 90 % interval."""
    paths = [
        logs.write_run(
            tmp_path / name,
            {
                "lost": [logs.choice(i, row if i < 3 else [-1.0, -2.0]) for i in range(6)],
                "kept": [
                    logs.choice(i, [-1.0, -2.0 - 0.1 * len(name)], question=f"k{i}")
                    for i in range(6)
                ],
            },
            model=name,
        )
        for name, row in (("base", [-1.0, -2.0]), ("int4", [-2.0, -1.0]), ("int44", [-2.0, -1.1]))
    ]
    one = printed(compare(*paths[:2], metric="acc", tasks="lost"), width=10_000)
    line = row_of(one, "direction:")
    assert "3 of 3 flips are losses, 100.00 % [43.85, 100.00]" in line
    assert "50.00 % [18.76, 81.24] of the baseline's correct answers lost" in line
    assert "its answers' margin -0.4621 [-" in line
    judged = compare(*paths[:2], metric="acc", equivalence_margin=0.01)
    text = printed(judged, width=10_000)
    line = row_of(text, "equivalence within ±0.01")
    # three losses and no win are no difference by the exact test, so the interval reaches to 0
    assert stats.binomtest(3, 3).pvalue > 0.1
    assert "Too few samples to tell: the change may be nothing, or exceed the margin." in line
    equivalence = judged.compressed[0].pooled.equivalence
    assert equivalence is not None
    low, high = equivalence.inner
    assert low < -3 / 12 < 0 <= high
    assert f"(90 % interval [{low:+.4f}, {high:+.4f}])" in line
    assert row_of(text, "  undecided:").strip() == "undecided: kept acc, lost acc"
    silent = printed(compare(*paths[:2], metric="acc"), width=10_000)
    assert "equivalence" not in silent


def single(folder: Path, names: Mapping[str, float]) -> list[Path]:
    """Runs of ten samples of one document, which bound nothing; each moved by so much."""
    return [
        logs.write_run(
            folder / name,
            {
                "task": [
                    logs.choice(i, [-1.0 - shift, -1.5], question="the only one") for i in range(10)
                ]
            },
            model="base" if name == "floor" else name,
            date=logs.LATER if name == "floor" else logs.DATE,
        )
        for name, shift in names.items()
    ]


def test_what_has_no_interval_is_not_within_the_floor(tmp_path: Path) -> None:
    """One document: dashes, never "nan", and no word of what the floor holds."""
    base, floor, int4 = single(tmp_path, {"base": 0.0, "floor": 0.1, "int4": 0.2})
    found = compare(base, int4, noise_floor=floor, metric="acc", equivalence_margin=0.1)
    (run,) = found.compressed
    assert not any(own.within_floor for own in run.pooled.excess.values())
    line = line_of(run, "beyond the noise floor")
    assert line is not None
    assert re.search(r"choice KL \+\d\.\d\de-\d\d \[–, –\]$", line)
    assert "flips +0.00 % [–, –]" in line
    assert "not told apart" not in line
    assert "[–, –]" in (line_of(run, "equivalence") or "")
    assert "nan" not in printed(found, width=10_000)


def test_an_undefined_score_is_a_dash_in_its_row(tmp_path: Path) -> None:
    """Texts without a word have no perplexity, and no change of it."""
    paths = [
        logs.write_run(tmp_path / name, {"wiki": [logs.rolling(i, x - i, "") for i in range(3)]})
        for name, x in (("base", -1.0), ("int4", -2.0))
    ]
    line = row_of(printed(compare(*paths, metric="word_perplexity"), width=10_000), "wiki ")
    assert line.split() == ["wiki", "word_perplexity", "3"]


def test_the_floor_names_what_it_holds(tmp_path: Path) -> None:
    """Samples, flips and KL of the baseline's second run."""
    base, floor, int4 = single(tmp_path, {"base": 0.0, "floor": 0.1, "int4": 0.2})
    found = compare(base, int4, noise_floor=floor, metric="acc")
    (line,) = floor_lines(found)
    assert line.startswith("noise floor 10 samples, flips 0.00 %, all flips 0.00 %, choice KL ")


def test_a_correlation_that_is_undefined_is_a_dash(tmp_path: Path) -> None:
    """Nothing flipped: no correlation, no detection, the number of samples all the same."""
    quiet = compared(tmp_path, {"arc": (0, 0)})
    assert line_of(quiet, "choice KL") == (
        "choice KL and flips, sample by sample: AUROC –, Spearman – (n = 40)"
    )
    assert quiet.pooled.correlation is not None
    assert quiet.pooled.correlation.flipped.statistic == pytest.approx(nan, nan_ok=True)


def test_the_floor_is_of_the_samples_that_a_run_shares(tmp_path: Path) -> None:
    """A run that answered half of them: the floor's flips of that half, by hand; all beside it."""
    base = [logs.choice(i, [-1.0, -2.0 - 0.01 * i], gold=0) for i in range(20)]
    second = [logs.choice(i, [-1.0, -0.5 if i >= 15 else -2.1]) for i in range(20)]
    third = [logs.choice(i, [-1.0, -0.5 if i % 3 == 0 else -2.2]) for i in range(20)]
    paths = [
        logs.write_run(tmp_path / name, {"task": records}, model=f"org/{name}")
        for name, records in (("whole", third), ("half", third[:10]))
    ]
    model, *floor = "org/base", tmp_path / "floor"
    baseline = logs.write_run(tmp_path / "base", {"task": base}, model=model)
    again = logs.write_run(floor[0], {"task": second}, model=model)
    found = compare(baseline, *paths, noise_floor=again, on_mismatch="intersect", metric="acc")
    whole, half = floor_lines(found)
    assert whole.startswith("noise floor 20 samples, flips 25.00 %, all flips 25.00 %, choice KL ")
    assert whole.endswith("(beside whole)")
    assert half.startswith("noise floor 10 samples that the run shares, flips 0.00 %")
    assert half.endswith("(beside half)")
