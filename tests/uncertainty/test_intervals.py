"""Errors, intervals and p-values follow what is independent: documents, strata, clusters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import exp, inf, isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips import Row, compare
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.measures.divergence import together
from lm_eval_flips.measures.flips import Flips
from lm_eval_flips.measures.paired_difference import mover
from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.pairs.indicators import indicators
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.intervals import distance_intervals
from lm_eval_flips.uncertainty.row_errors import RowErrors
from tests.generators import logs, paired
from tests.generators.paired import DEVICES, UNDEFINED, Questions

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
    error = max(error, paired.stratified(changes)[0])
    assert pooled.error_method == "clustered by task (12)"
    assert pooled.score_change == pytest.approx(whole.mean())
    assert pooled.p_value == pytest.approx(2 * stats.t.sf(abs(whole.mean()) / error, 11), rel=1e-9)
    place = np.repeat(np.arange(12), [len(own) for own in changes])

    def error_of(values: paired.Floats) -> tuple[float, float]:
        alone, _ = paired.stratified(np.split(values, 12))
        own, freedom = paired.clustered(values, place)
        return max(own, alone), freedom

    ends = paired.change_ends(whole, error_of, len(whole))
    assert pooled.intervals["score_change"] == pytest.approx(ends, rel=1e-7)


# Independent samples


@pytest.mark.parametrize("device", DEVICES)
def test_intervals_of_independent_samples_match_scipy_and_statsmodels(device: str) -> None:
    """Means have scipy's t intervals, shares statsmodels' Wilson, quantiles scipy's."""
    asked = paired.questions(2)
    found = measure([asked.paired(device=device)], name="questions")
    intervals = dict(found.intervals)
    for name, values in asked.shares.items():
        expected = proportion_confint(values.sum(), 120, method="wilson")
        assert intervals.pop(name) == pytest.approx(expected, rel=1e-9), name
    expected = paired.distance_ends(asked.kl, stats.sem(asked.kl), 119)
    assert intervals.pop("choice_kl") == pytest.approx(expected, rel=1e-7)
    lost, won = int((asked.change < 0).sum()), int((asked.change > 0).sum())
    expected = mover(lost=lost, won=won, n=120)
    assert intervals.pop("score_change") == pytest.approx(tuple(expected), rel=1e-12)
    for name, share in (("choice_kl_median", 0.5), ("choice_kl_p99", 0.99)):
        ends: Any = stats.quantile_test(asked.kl, p=share).confidence_interval(0.95)
        expected = (ends.low, ends.high)
        assert intervals.pop(name) == pytest.approx(expected, rel=1e-9, nan_ok=True), name
    correct = int(asked.correct[0].sum())
    for name, whole in (("loss_share", lost + won), ("negative_flip_rate", correct)):
        expected = proportion_confint(lost, whole, method="wilson")
        assert intervals.pop(name) == pytest.approx(expected, rel=1e-9), name
    ends = stats.ttest_1samp(asked.margin_change, 0).confidence_interval(0.95)
    assert intervals.pop("margin_change") == pytest.approx((ends.low, ends.high), rel=1e-9)
    correlations = ("choice_kl_with_changed", "choice_kl_with_flipped", "choice_kl_detects_flips")
    margins = ("margin_of_correct", "margin_of_incorrect")
    rates = ("changed_of_correct", "changed_of_incorrect")
    others = [
        f"{name}{of}"
        for name in ("choice_kl_reverse", "jensen_shannon", "total_variation")
        for of in ("", "_median", "_p99")
    ]
    assert set(intervals) == {"recovery", *correlations, *margins, *rates, *others}  # below


def test_other_distances_have_the_same_kind_of_interval() -> None:
    """The interval of a mean of distances, and scipy's order statistics of their median."""
    metric = paired.questions(2).paired()
    assert metric.divergence is not None
    intervals = measure([metric], name="questions").intervals
    for key, values in (
        ("choice_kl_reverse", metric.divergence.reverse_kl.numpy()),
        ("jensen_shannon", metric.divergence.jensen_shannon.numpy()),
        ("total_variation", metric.divergence.total_variation.numpy()),
    ):
        expected = paired.distance_ends(values, stats.sem(values), len(values) - 1)
        assert intervals[key] == pytest.approx(expected, rel=1e-7)
        ends: Any = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
        assert intervals[f"{key}_median"] == pytest.approx((ends.low, ends.high), rel=1e-9)


# Samples that share a document


@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_one_document_are_one_cluster(device: str) -> None:
    """Where documents repeat, errors equal statsmodels' clustered by document."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    found = measure([asked.paired(device=device)], name="questions")
    assert found.error_method == "clustered by document (30 of 120 samples)"
    ends = paired.change_ends(asked.change, lambda own: paired.clustered(own, documents), 30)
    assert found.intervals["score_change"] == pytest.approx(ends, rel=1e-7)
    units = np.bincount(documents, weights=asked.kl).astype(np.float64)
    ends = paired.distance_ends(asked.kl, *paired.clustered(asked.kl, documents), units=units)
    assert found.intervals["choice_kl"] == pytest.approx(ends, rel=1e-7)
    for name, values in asked.shares.items():
        fit = paired.regression(values, documents)
        expected = paired.effective_wilson(values.mean(), 120, fit.bse[0], 29)
        assert found.intervals[name] == expected, name
    fit = paired.regression(asked.margin_change, documents)
    assert found.intervals["margin_change"] == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-8)
    lost = asked.indicators["correct_to_incorrect"]
    wholes = {
        "loss_share": asked.indicators["flips"],
        "negative_flip_rate": asked.correct[0].astype(float),
    }
    for name, whole in wholes.items():
        fit = paired.regression(lost, documents, x=whole)
        expected = paired.effective_wilson(fit.params[0], int(whole.sum()), fit.bse[0], 29)
        assert found.intervals[name] == expected, name


def test_samples_of_one_document_widen_the_intervals() -> None:
    """Control for the test above: the same answers to different documents look more certain."""
    documents = np.arange(120) // 4
    asked = paired.questions(7, documents=documents)
    clustered = measure([asked.paired()], name="questions").intervals
    alone = Questions(asked.baseline, asked.compressed, asked.gold)
    independent = measure([alone.paired()], name="questions").intervals
    for name in ("score_change", "choice_kl", "flips", "answers_changed_share"):
        assert paired.width(clustered[name]) > 1.2 * paired.width(independent[name]), name


def test_repeating_every_document_adds_no_evidence() -> None:
    """Each question logged three times under its one document keeps the change's interval."""
    asked = paired.questions(8, 60)
    once = measure([asked.paired()], name="questions")
    found = measure([paired.thrice(asked).paired()], name="questions")
    assert found.error_method == "clustered by document (60 of 180 samples)"
    assert found.intervals["choice_kl"] == pytest.approx(
        tuple(once.intervals["choice_kl"]), rel=1e-9
    )
    alone = mover(lost=int((asked.change < 0).sum()), won=int((asked.change > 0).sum()), n=60)
    # the textbook's 59 instead of 60
    assert found.intervals["score_change"] == pytest.approx(tuple(alone), abs=0.01)


def test_repeating_every_document_leaves_the_p_value() -> None:
    """Three copies of every answer are exactly as significant as one."""
    asked = paired.questions(8, 60)
    once = measure([asked.paired()], name="questions")
    found = measure([paired.thrice(asked).paired()], name="questions")
    assert once.p_value < 0.05
    assert found.p_value == once.p_value
    copies = [paired.thrice(asked).change[i::3] for i in range(3)]  # control: counting each copy
    lost, won = ((np.concatenate(copies) == sign).sum() for sign in (-1, 1))
    assert stats.binomtest(int(lost), int(lost + won)).pvalue < once.p_value / 10


def test_repeating_every_document_leaves_the_interval_of_the_median() -> None:
    """Three copies of every answer bound the median about as well as one, not better."""
    asked = paired.questions(8, 60)
    once = measure([asked.paired()], name="questions").intervals["choice_kl_median"]
    found = measure([paired.thrice(asked).paired()], name="questions").intervals["choice_kl_median"]
    assert 0.8 < paired.width(found) / paired.width(once) < 1.2
    control = paired.thrice(asked)
    alone = Questions(control.baseline, control.compressed, control.gold)
    naive = measure([alone.paired()], name="questions").intervals["choice_kl_median"]
    assert paired.width(naive) < 0.8 * paired.width(once)


def test_a_single_document_has_no_error() -> None:
    """Ten samples of one document say nothing about other documents: every interval is nan."""
    asked = paired.questions(9, 10, documents=np.zeros(10, np.int64))
    found = measure([asked.paired()], name="questions")
    assert found.error_method == "clustered by document (1 of 10 samples)"
    for name in ("score_change", "choice_kl", "flips", "answers_changed_share"):
        assert found.intervals[name] == UNDEFINED, name


# Groups and pools


@pytest.mark.parametrize("device", DEVICES)
def test_few_tasks_are_strata(device: str) -> None:
    """Over fewer than ten tasks the errors within each are added up."""
    tasks = paired.tasks(3)
    found = paired.pooled(tasks, device=device)
    assert found.error_method == "stratified by task (3)"
    n = sum(len(asked.gold) for asked in tasks)
    cuts = np.cumsum([len(asked.gold) for asked in tasks])[:-1]

    def error_of(values: paired.Floats) -> tuple[float, float]:
        return paired.stratified(np.split(values, cuts))

    change = np.concatenate([asked.change for asked in tasks])
    kl = np.concatenate([asked.kl for asked in tasks])
    ends = paired.change_ends(change, error_of, n)
    assert found.intervals["score_change"] == pytest.approx(ends, rel=1e-7)
    ends = paired.distance_ends(kl, *error_of(kl))
    assert found.intervals["choice_kl"] == pytest.approx(ends, rel=1e-7)
    for name in tasks[0].shares:
        parts = [asked.shares[name] for asked in tasks]
        share = float(np.concatenate(parts).mean())
        expected = paired.effective_wilson(share, n, *paired.stratified(parts))
        assert found.intervals[name] == expected, name


@pytest.mark.parametrize("device", DEVICES)
def test_many_tasks_are_clusters(device: str) -> None:
    """Over tasks worth ten alike errors are Bell and McCaffrey's, clustered by task."""
    tasks = paired.tasks(13)
    found = paired.pooled(tasks, device=device)
    assert found.error_method == "clustered by task (13)"
    sizes = [len(asked.gold) for asked in tasks]
    place = np.repeat(np.arange(13), sizes)

    def error_of(values: paired.Floats) -> tuple[float, float]:
        error, freedom = paired.clustered(values, place)
        # never with a smaller error than the samples alone have
        return max(error, paired.stratified(np.split(values, np.cumsum(sizes)[:-1]))[0]), freedom

    change = np.concatenate([asked.change for asked in tasks])
    kl = np.concatenate([asked.kl for asked in tasks])
    ends = paired.change_ends(change, error_of, len(change))
    assert found.intervals["score_change"] == pytest.approx(ends, rel=1e-7)
    ends = paired.distance_ends(kl, *error_of(kl))
    assert found.intervals["choice_kl"] == pytest.approx(ends, rel=1e-7)
    for name in tasks[0].shares:
        values = np.concatenate([asked.shares[name] for asked in tasks])
        error, freedom = error_of(values)
        expected = paired.effective_wilson(values.mean(), len(values), error, freedom)
        assert found.intervals[name] == expected, name
    # control: as strata the tasks give another interval, and nine of them are strata
    strata = np.split(kl, np.cumsum(sizes)[:-1])
    other = paired.distance_ends(kl, *paired.stratified(strata))
    assert found.intervals["choice_kl"] != pytest.approx(other, rel=0.02)
    assert paired.pooled(tasks[:9]).error_method == "stratified by task (9)"


def test_strata_keep_their_documents_together() -> None:
    """Within the tasks of a stratified pool, samples of one document still are one cluster."""
    documents = np.arange(60) // 3
    tasks = [paired.questions(seed, 60, documents=documents) for seed in (30, 31)]
    found = paired.pooled(tasks)

    def error_of(values: paired.Floats) -> tuple[float, float]:
        errors = [paired.clustered(own, documents)[0] / 2 for own in np.split(values, 2)]
        return sqrt(sum(error**2 for error in errors)), 2 * 19

    change = np.concatenate([asked.change for asked in tasks])
    expected = paired.change_ends(change, error_of, 40)
    assert found.intervals["score_change"] == pytest.approx(expected, rel=1e-7)


def test_many_perplexities_are_clustered_by_task() -> None:
    """A pool of ten perplexities has the error that its error_method names: clustered by task."""
    tasks = [paired.texts(50 + i, 12, worse=0.02 * i) for i in range(10)]
    found = measure([texts.paired(f"pile{i}") for i, texts in enumerate(tasks)], name="pile")
    words = np.concatenate([texts.words for texts in tasks])
    change = np.concatenate([texts.baseline - texts.compressed for texts in tasks])
    fit = paired.regression(change, np.repeat(np.arange(10), 12), 1 / words, words)
    low, high = fit.conf_int()[0]
    assert found.perplexity is not None
    assert found.perplexity.loss_change == pytest.approx(float(fit.params[0]), rel=1e-9)
    assert found.error_method == "clustered by task (10)"
    assert found.p_value == pytest.approx(float(fit.pvalues[0]), rel=1e-7)
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-8)


def test_few_perplexities_are_stratified_by_task() -> None:
    """A pool of two perplexities has the error that its error_method names: within the tasks."""
    tasks = [paired.texts(60, 12, worse=0.0), paired.texts(61, 20, worse=0.4)]
    found = measure([texts.paired(f"pile{i}") for i, texts in enumerate(tasks)], name="pile")
    words = sum(texts.words.sum() for texts in tasks)
    ratio = sum((texts.baseline - texts.compressed).sum() for texts in tasks) / words
    rest = [texts.baseline - texts.compressed - ratio * texts.words for texts in tasks]
    error, freedom = paired.stratified(rest)
    error *= 32 / words
    low, high = paired.t_interval(float(ratio), float(error), freedom)
    assert found.error_method == "stratified by task (2)"
    assert found.p_value == pytest.approx(2 * stats.t.sf(ratio / error, freedom), rel=1e-7)
    assert found.intervals["perplexity_ratio"] == pytest.approx((exp(low), exp(high)), rel=1e-8)


@pytest.mark.parametrize("device", DEVICES)
def test_row_without_a_flip_is_as_certain_as_its_documents_are_many(device: str) -> None:
    """No flip in documents, strata or clusters of tasks: copies of a document count once."""
    pools = (
        ([paired.questions(9, 60, documents=np.arange(60) // 2)], 30),
        (paired.tasks(3), sum(len(part.gold) for part in paired.tasks(3))),
        (paired.tasks(13), sum(len(part.gold) for part in paired.tasks(13))),
    )
    for asked, documents in pools:
        same = [replace(part, compressed=part.baseline) for part in asked]
        found = paired.pooled(same, device=device)
        assert found.error_method != "independent samples"
        low, high = found.intervals["score_change"]
        assert isnan(found.p_value)
        freedom: float = documents - len(asked)
        if len(asked) == 13:
            place = np.repeat(np.arange(13), [len(part.gold) for part in asked])
            _, freedom = paired.clustered(place.astype(float), place)
        alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, freedom))
        expected = proportion_confint(0, documents, alpha=alpha, method="wilson")
        assert (low, high) == pytest.approx((-expected[1], expected[1]), rel=1e-7)
        assert found.intervals["flips"] == pytest.approx(expected, rel=1e-8, abs=1e-15)


def test_a_change_that_all_documents_share_keeps_a_width(tmp_path: Path) -> None:
    """Every sample lost, each document twice: as certain as the documents, not as the samples."""
    paths = []
    for side, scores in enumerate((RIGHT, WRONG)):
        records = [logs.choice(i, scores, question=f"Q{i // 2}") for i in range(20)]
        paths.append(logs.write_run(tmp_path / str(side), {"task": records}))
    row = compare(*paths, metric="acc").compressed[0].pooled
    assert row.score_change == -1.0
    low, high = row.intervals["score_change"]
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, 9))
    kept, most = (
        proportion_confint(count, 10, alpha=alpha, method="wilson")[side]
        for count, side in ((10, 0), (0, 1))
    )
    expected = -1 + sqrt((1 - kept) ** 2 + most**2)
    assert (low, high) == pytest.approx((-1.0, expected), rel=1e-7)
    # control: counted as twenty independent samples it would look more certain
    assert mover(lost=20, won=0, n=20).high < high


def test_the_interval_of_a_change_stays_within_what_a_score_can_change(tmp_path: Path) -> None:
    """Two documents, one lost: t of one degree of freedom reaches far beyond -1 and 1."""
    row = row_of(tmp_path, [True] * 30, [False] * 30, [0] * 30)
    assert row.error_method == "clustered by document (2 of 31 samples)"
    assert row.intervals["score_change"].low == pytest.approx(-1.0, abs=1e-4)
    change = np.array([-1.0] * 30 + [0.0])
    fit = paired.regression(change, np.array([0] * 30 + [1]))
    assert fit.conf_int()[0, 0] < -1.0  # control: uncut
    assert row.intervals["score_change"].high <= 1.0


def test_change_of_an_error_rate_has_the_sign_of_the_score() -> None:
    """Where less is better a lost answer raises the score, and the interval is that of the rise."""
    sides = [[("x", float(i < right)) for i in range(20)] for right in (2, 5)]
    found = measure(
        [paired.generated("toxic", *sides, metric="error", lower_is_better=True)], name="toxic"
    )
    assert found.flips is not None
    assert found.flips.correct_to_incorrect == 3
    assert found.intervals["score_change"] == mover(lost=0, won=3, n=20)
    assert found.p_value == pytest.approx(stats.binomtest(3, 3).pvalue, rel=1e-12)


# p-values


def _by_document(asked: Questions, values: paired.Floats) -> paired.Floats:
    """Sums over the samples of each document, by numpy."""
    documents = np.arange(len(values)) if asked.documents is None else asked.documents
    return np.bincount(documents, weights=values).astype(np.float64)


def _discordant(flips: Flips) -> tuple[int, int]:
    """Samples lost, and lost or won, each counted for itself."""
    lost = flips.correct_to_incorrect
    return lost, lost + flips.incorrect_to_correct


@pytest.mark.parametrize("device", DEVICES)
def test_p_is_mcnemars_of_the_documents_net_changes(device: str) -> None:
    """A document of several samples is lost or won by the sign of their sum, also over strata."""
    tasks = [paired.questions(90 + i, 80, documents=np.arange(80) // 4) for i in range(3)]
    mixed = [_by_document(t, t.change**2) > abs(_by_document(t, t.change)) for t in tasks]
    assert np.concatenate(mixed).any()  # a document has answers lost and answers won
    for pool in (tasks[:1], tasks):
        net = np.concatenate([_by_document(asked, asked.change) for asked in pool])
        lost, won = int((net < 0).sum()), int((net > 0).sum())
        found = paired.pooled(pool, device=device)
        assert found.p_value == pytest.approx(stats.binomtest(lost, lost + won).pvalue, rel=1e-9)
        assert found.flips is not None
        samples = stats.binomtest(*_discordant(found.flips)).pvalue
        assert samples != pytest.approx(found.p_value, rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_p_of_many_tasks_is_students_with_the_clustered_error(device: str) -> None:
    """Over many tasks p is that of a mean clustered by task; over nine McNemar's."""
    tasks = paired.tasks(13)
    sizes = [len(asked.gold) for asked in tasks]
    place = np.repeat(np.arange(13), sizes)
    change = np.concatenate([asked.change for asked in tasks])
    error, freedom = paired.clustered(change, place)
    error = max(error, paired.stratified([asked.change for asked in tasks])[0])
    found = paired.pooled(tasks, device=device)
    expected = 2 * stats.t.sf(abs(change.mean()) / error, freedom)
    assert found.p_value == pytest.approx(expected, rel=1e-7)
    nine = paired.pooled(tasks[:9], device=device)
    nets = change[place < 9]
    lost, won = int((nets < 0).sum()), int((nets > 0).sum())
    assert nine.p_value == pytest.approx(stats.binomtest(lost, lost + won).pvalue, rel=1e-9)
    assert found.flips is not None
    samples = stats.binomtest(*_discordant(found.flips)).pvalue
    assert samples != pytest.approx(found.p_value, rel=1e-2)


def _scored(seed: int, n: int) -> tuple[paired.Floats, paired.Floats, PairedMetric]:
    """Scores between 0 and 1 of both runs, and their metric."""
    generator = np.random.default_rng(seed)
    before = generator.random(n)
    after = np.clip(before - 0.03 * (seed % 5) + 0.1 * generator.normal(size=n), 0, 1)
    sides = [[("x", float(score)) for score in side] for side in (before, after)]
    return before, after, paired.generated(f"squad{seed}", *sides, metric="f1")


@pytest.mark.parametrize("count", [4, 13])
def test_the_interval_of_pooled_scores_is_students(count: int) -> None:
    """Scores that are not binary: t within four strata, statsmodels' clustered t over ten tasks."""
    parts = [_scored(100 + i, 12 + i) for i in range(count)]
    change = [after - before for before, after, _ in parts]
    whole = np.concatenate(change)
    found = measure([metric for _, _, metric in parts], name="pooled")
    assert found.flips is None
    error: float
    freedom: float
    if count < 10:
        error, freedom = paired.stratified(change)
    else:
        place = np.repeat(np.arange(count), [len(c) for c in change])
        error, freedom = paired.clustered(whole, place)
        error = max(error, paired.stratified(change)[0])
        expected_p = 2 * stats.t.sf(abs(whole.mean()) / error, freedom)
        assert found.p_value == pytest.approx(expected_p, rel=1e-7)
    expected = paired.t_interval(float(whole.mean()), error, freedom)
    assert found.intervals["score_change"] == pytest.approx(expected, rel=1e-8)
    assert found.p_value != pytest.approx(stats.ttest_1samp(whole, 0).pvalue, rel=1e-3)


# What is counted


@pytest.mark.parametrize("device", DEVICES)
def test_indicators_mark_what_is_counted(device: str) -> None:
    """One column for each name, equal to the answers' own comparison; open text has no AllFlips."""
    asked = paired.questions(15, 50)
    found = indicators(asked.paired(device=device))
    assert set(found) == set(asked.indicators)
    for name, values in asked.indicators.items():
        assert found[name].cpu().tolist() == values.astype(bool).tolist(), name
    text = paired.generated("gsm8k", [("a", 1.0), ("b", 0.0)], [("a", 1.0), ("c", 0.0)])
    open_ = {name: values.tolist() for name, values in indicators(text).items()}
    assert open_ == {
        "flips": [False, False],
        "correct_to_incorrect": [False, False],
        "incorrect_to_correct": [False, False],
        "answers_changed": [False, True],
    }
    assert indicators(_scored(1, 5)[2]) == {}


# Quantiles of samples that are not independent


def _of_kl(
    template: PairedMetric, kl: torch.Tensor, documents: torch.Tensor
) -> Mapping[str, Interval]:
    """The intervals of a metric that has these distances, its samples being of these documents."""
    assert template.divergence is not None
    divergence = replace(template.divergence, kl=kl)
    metric = replace(template, divergence=divergence, clusters=documents)
    return distance_intervals([metric], RowErrors([metric]), together([divergence]))


def _half_shared(
    generator: torch.Generator, documents: int, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of variance 2, half of it the document's own, and the documents."""
    place = torch.arange(documents).repeat_interleave(size)
    shared = torch.randn(documents, generator=generator, dtype=torch.float64)
    own = torch.randn(documents * size, generator=generator, dtype=torch.float64)
    return shared[place] + own, place


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["documents", "strata", "tasks"])
def test_median_of_dependent_samples_has_woodruffs_interval(kind: str, device: str) -> None:
    """Its ends stand, to a hundredth, where t errors of the share below say, by statsmodels."""
    tasks = {
        "documents": [paired.questions(95, 160, documents=np.arange(160) // 2)],
        "strata": paired.tasks(4, first_seed=60),
        "tasks": paired.tasks(12, first_seed=60),
    }[kind]
    kl = [asked.kl for asked in tasks]
    whole = np.concatenate(kl)
    below = [(own <= np.median(whole)).astype(np.float64) for own in kl]
    if kind == "strata":
        error, freedom = paired.stratified(below)
    else:
        places = tasks[0].documents
        if kind == "tasks" or places is None:
            places = np.repeat(np.arange(len(kl)), [len(own) for own in kl])
        error = float(paired.regression(np.concatenate(below), places).bse[0])
        freedom = int(places.max())
    half = stats.t.ppf(0.975, freedom) * error
    found = paired.pooled(tasks, device=device).intervals["choice_kl_median"]
    shares = [float((whole < end).mean()) for end in found]
    assert shares == pytest.approx([0.5 - half, 0.5 + half], abs=0.0125)
    if kind != "strata":  # control: independent samples would have another interval
        assert half > 1.96 * 0.5 / sqrt(len(whole)) + 0.0125
    assert found.low < np.median(whole) < found.high


@pytest.mark.parametrize(
    ("name", "truth"), [("choice_kl_median", 0.0), ("choice_kl_p99", 2.326348)]
)
def test_quantile_interval_of_clustered_samples_covers(name: str, truth: float) -> None:
    """Over 300 draws of 100 documents of three samples about 95 % hold the quantile.

    An end that is nan bounds nothing. Control: taking the 300 samples as independent covers less.
    """
    generator, trials = torch.Generator().manual_seed(11), 300
    template = paired.questions(16, 300).paired()
    covered, naive = 0, 0
    for _ in range(trials):
        values, documents = _half_shared(generator, 100, 3)
        low, high = _of_kl(template, values / sqrt(2), documents)[name]
        covered += not (truth < low or truth > high)
        if name == "choice_kl_median":
            low, high = _of_kl(template, values / sqrt(2), torch.arange(300))[name]
            naive += not (truth < low or truth > high)
    assert covered / trials >= 0.92
    assert naive / trials < 0.92


def test_quantile_that_too_few_documents_bound_has_an_open_end() -> None:
    """Sixty documents leave the high end of p99 open, and three copies of each bound it no more."""
    asked = paired.questions(8, 60)
    once = measure([asked.paired()], name="questions").intervals["choice_kl_p99"]
    found = measure([paired.thrice(asked).paired()], name="questions").intervals["choice_kl_p99"]
    assert isnan(once.high)
    assert isnan(found.high)


def test_quantiles_of_a_single_document_are_unbounded() -> None:
    """Ten samples of one document bound neither quantile."""
    template = paired.questions(16, 10).paired()
    values = torch.arange(10, dtype=torch.float64)
    found = _of_kl(template, values, torch.zeros(10, dtype=torch.long))
    for name in ("choice_kl_median", "choice_kl_p99"):
        assert found[name] == UNDEFINED


def test_median_interval_of_infinite_distances_is_not_nan() -> None:
    """One infinite distance in sixty leaves the median's interval finite; most make it infinite."""
    template = paired.questions(16, 60).paired()
    values, documents = torch.arange(60, dtype=torch.float64), torch.arange(60) // 2
    values[-1] = inf
    low, high = _of_kl(template, values, documents)["choice_kl_median"]
    assert 0 < low < 29.5 < high < 59
    assert _of_kl(template, values, documents)["choice_kl"] == UNDEFINED
    values[5:] = inf
    low, high = _of_kl(template, values, documents)["choice_kl_median"]
    assert (low, high) == (inf, inf)
