"""Errors and p-values follow what is independent: documents, strata, clusters."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips import Row, compare
from tests import logs

RIGHT, WRONG = [-1.0, -2.0], [-2.0, -1.0]


def row_of(folder: Path, lost: list[bool], won: list[bool], documents: list[int]) -> Row:
    """The acc row of a task whose samples were lost, won or kept; equal numbers are one document."""
    paths = []
    for side in (0, 1):
        records = [
            logs.choice(
                i,
                RIGHT if (lo and side == 0) or (wo and side == 1) or not (lo or wo) else WRONG,
                question=f"Question {document}",
            )
            for i, (lo, wo, document) in enumerate(zip(lost, won, documents, strict=True))
        ]
        # one number that differs, so that runs without a flip are not identical
        records.append(logs.choice(len(lost), [-1.0 - side / 8, -2.0], question="last"))
        paths.append(logs.write_run(folder / str(side), {"task": records}))
    return compare(*paths, metric="acc").compressed[0].pooled


def test_p_is_mcnemar_s_of_independent_samples(tmp_path: Path) -> None:
    """Nine lost and one won of twenty: scipy's binomial test of 9 in 10."""
    lost = [i < 9 for i in range(20)]
    won = [i == 9 for i in range(20)]
    row = row_of(tmp_path, lost, won, list(range(20)))
    assert row.error_method == "independent samples"
    assert row.p_value == pytest.approx(stats.binomtest(9, 10, 0.5).pvalue, rel=1e-12)


def test_a_document_three_times_is_one_pair(tmp_path: Path) -> None:
    """Copies of a document add no evidence: p is that of the documents."""
    lost = [i // 3 < 9 for i in range(60)]
    won = [i // 3 == 9 for i in range(60)]
    row = row_of(tmp_path, lost, won, [i // 3 for i in range(60)])
    assert row.error_method == "clustered by document (21 of 61 samples)"
    assert row.p_value == pytest.approx(stats.binomtest(9, 10, 0.5).pvalue, rel=1e-12)
    assert row.p_value > 1000 * stats.binomtest(27, 30, 0.5).pvalue  # control: counting copies


def test_a_document_lost_and_won_alike_is_no_pair(tmp_path: Path) -> None:
    """A document of which one copy is lost and one won has no net change."""
    row = row_of(tmp_path, [True, False], [False, True], [0, 0])
    assert row.flips is not None
    assert row.flips.flips == pytest.approx(2 / 3)
    assert isnan(row.p_value)


def test_the_median_of_copies_is_bounded_as_the_documents_bound_it(tmp_path: Path) -> None:
    """Woodruff: each value four times bounds the median no better than once; ends are values."""
    generator = np.random.default_rng(0)
    shifts = generator.uniform(0.1, 3, 40)
    intervals = []
    for copies in (1, 4):
        paths = []
        for side in (0, 1):
            records = [
                logs.choice(
                    i, [-1.0 - side * shifts[i // copies], -2.0], question=f"Q{i // copies}"
                )
                for i in range(40 * copies)
            ]
            paths.append(logs.write_run(tmp_path / f"{copies}{side}", {"task": records}))
        row = compare(*paths, metric="acc").compressed[0].pooled
        assert row.distances is not None
        intervals.append(row.intervals["choice_kl_median"])
        low, high = intervals[-1]
        assert low < row.distances.choice_kl.median < high
    once, copied = (interval.high - interval.low for interval in intervals)
    assert copied > 0.8 * once


def test_many_tasks_are_tested_as_clusters(tmp_path: Path) -> None:
    """Twelve tasks: p and interval of the pool are t's over the tasks' sums, worked out here."""
    generator = np.random.default_rng(1)
    changes: list[np.ndarray] = []
    paths = []
    moves = [generator.choice([0, 0, 0, -1, 1], 20, p=[0.2, 0.2, 0.2, 0.3, 0.1]) for _ in range(12)]
    for side in (0, 1):
        tasks = {}
        for number, moved in enumerate(moves):
            rows = [RIGHT if (m == -1) == (side == 0) or m == 0 else WRONG for m in moved.tolist()]
            tasks[f"task{number:02}"] = [
                logs.choice(i, row, question=f"{number} {i}") for i, row in enumerate(rows)
            ]
        paths.append(logs.write_run(tmp_path / str(side), tasks))
    changes = [moved.astype(float) for moved in moves]
    pooled = compare(*paths, metric="acc").compressed[0].pooled
    whole = np.concatenate(changes)
    sums = np.array([(change - whole.mean()).sum() for change in changes])
    error = np.sqrt((sums**2).sum() * 12 / 11) / len(whole)
    assert pooled.error_method == "clustered by task (12)"
    assert pooled.score_change == pytest.approx(whole.mean())
    assert pooled.p_value == pytest.approx(2 * stats.t.sf(abs(whole.mean()) / error, 11), rel=1e-9)
    low, high = stats.t(11, whole.mean(), error).interval(0.95)
    assert pooled.intervals["score_change"] == pytest.approx((low, high), rel=1e-9)
