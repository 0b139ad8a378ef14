"""The test that fits a row: which it is, and its p-values by scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
import torch
from scipy import stats

from lm_eval_flips.comparison.row import measure
from lm_eval_flips.pairs.metric import PairedMetric
from lm_eval_flips.uncertainty.change_test import ChangeTest, change_test
from lm_eval_flips.uncertainty.errors import Errors
from tests.generators import paired
from tests.generators.paired import DEVICES, Floats, Ints, Texts
from tests.measures.test_permutation import scipys
from tests.uncertainty.test_errors import by_field


def outcome(*metrics: PairedMetric) -> ChangeTest:
    """The test of these metrics together, as a row asks for it."""
    row = measure(metrics, name="row")
    found = change_test(Errors(metrics), row.flips, row.perplexity)
    assert (row.test, row.p_value, row.p_loss) == pytest.approx(
        (found.method, found.two_sided, found.loss), nan_ok=True
    )
    return found


def scored(
    before: Sequence[float] | Floats,
    after: Sequence[float] | Floats,
    *,
    documents: Ints | None = None,
    lower_is_better: bool = False,
    device: str = "cpu",
) -> PairedMetric:
    """A metric between 0 and 1 of generated text; samples of one number are one document."""
    sides = [[("x", float(score)) for score in side] for side in (before, after)]
    name = "ter" if lower_is_better else "f1"
    found = paired.generated("text", *sides, metric=name, lower_is_better=lower_is_better)
    found = replace(
        found,
        baseline_value=found.baseline_value.to(device),
        compressed_value=found.compressed_value.to(device),
        clusters=found.clusters.to(device),
    )
    return found if documents is None else replace(found, clusters=torch.from_numpy(documents))


def scores(seed: int, n: int, *, worse: float = 0.05) -> tuple[Floats, Floats]:
    """Scores of both runs, all of which moved."""
    generator = np.random.default_rng(seed)
    before = generator.random(n)
    return before, before - worse + 0.1 * generator.normal(size=n)


# Right or wrong


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("count", [1, 3, 9])
def test_right_or_wrong_is_tested_by_mcnemar(count: int, device: str) -> None:
    """Of one task or of up to nine together: scipy's binomial test of what was lost."""
    tasks = paired.tasks(count)
    found = outcome(*(asked.paired(device=device) for asked in tasks))
    change = np.concatenate([asked.change for asked in tasks])
    lost, won = int((change < 0).sum()), int((change > 0).sum())
    assert found.method == "exact McNemar"
    assert found.two_sided == pytest.approx(stats.binomtest(lost, lost + won).pvalue, rel=1e-9)
    one_sided = stats.binomtest(lost, lost + won, alternative="greater").pvalue
    assert found.loss == pytest.approx(one_sided, rel=1e-9)


def test_swapping_the_runs_swaps_a_loss_for_a_gain() -> None:
    """Whichever test it is: the two-sided p stays, the one-sided is that of the other side."""
    asked, texts = paired.questions(3), paired.texts(3)
    both = scores(3, 10)
    for there, back in (
        (asked.paired(), asked.swapped().paired()),
        (scored(*both), scored(*both[::-1])),
        (texts.paired(), Texts(texts.compressed, texts.baseline, texts.words).paired()),
    ):
        found, swapped = outcome(there), outcome(back)
        assert swapped.method == found.method
        assert swapped.two_sided == pytest.approx(found.two_sided, rel=1e-7)
        assert found.loss + swapped.loss >= 1 - 1e-9
        assert min(found.loss, swapped.loss) < 0.5 < max(found.loss, swapped.loss)


def test_a_document_of_several_samples_is_one_pair() -> None:
    """Lost or won by its net change; one with both is neither. Control: counted by samples."""
    documents = np.arange(120) // 3
    asked = paired.questions(5, documents=documents)
    net = np.bincount(documents, weights=asked.change).astype(np.float64)
    lost, won = int((net < 0).sum()), int((net > 0).sum())
    found = outcome(asked.paired())
    assert found.method == "exact McNemar"
    one_sided = stats.binomtest(lost, lost + won, alternative="greater").pvalue
    assert found.loss == pytest.approx(one_sided, rel=1e-9)
    alone = replace(asked, documents=None).paired()
    assert outcome(alone).loss != pytest.approx(one_sided, rel=1e-2)


def test_more_errors_are_a_loss() -> None:
    """Where 0 is right: of six that changed five went from 0 to 1, although the score rose."""
    sides = [[("x", float(i < 5) if side else float(i == 5)) for i in range(12)] for side in (0, 1)]
    worse = paired.generated("toxic", *sides, metric="error", lower_is_better=True)
    assert outcome(worse).loss == pytest.approx(
        stats.binomtest(5, 6, alternative="greater").pvalue, rel=1e-9
    )
    better = paired.generated("toxic", *sides, metric="exact_match")  # control: where 1 is right
    assert outcome(better).loss == pytest.approx(
        stats.binomtest(1, 6, alternative="greater").pvalue, rel=1e-9
    )


# Other scores


@pytest.mark.parametrize("device", DEVICES)
def test_other_scores_are_tested_by_permutation(device: str) -> None:
    """All signs of ten documents, by scipy: to the last digit."""
    before, after = scores(7, 10)
    found = outcome(scored(before, after, device=device))
    assert found.method == "permutation"
    assert found.two_sided == scipys(after - before, "two-sided")
    assert found.loss == scipys(after - before, "less")


def test_a_rise_of_a_score_that_should_be_low_is_a_loss() -> None:
    """A translation error rate that rose: the one-sided test is of the other side."""
    before, after = scores(7, 10, worse=-0.05)
    found = outcome(scored(before, after, lower_is_better=True))
    assert found.loss == scipys(after - before, "greater")
    control = outcome(scored(before, after))
    assert control.two_sided == found.two_sided
    assert control.loss == scipys(after - before, "less")
    assert found.loss < 0.5 < control.loss


@pytest.mark.parametrize("device", DEVICES)
def test_repeats_change_sign_together(device: str) -> None:
    """Ten documents of three samples: signs of the documents' sums, by scipy."""
    before, after = scores(8, 30)
    documents = np.repeat(np.arange(10), 3)
    metric = scored(before, after, device=device)
    clustered = replace(metric, clusters=torch.from_numpy(documents).to(device))
    sums = np.bincount(documents, weights=after - before).astype(np.float64)
    found = outcome(clustered)
    assert (found.method, found.two_sided) == ("permutation", scipys(sums, "two-sided"))
    assert found.loss == scipys(sums, "less")
    assert outcome(metric).two_sided != pytest.approx(found.two_sided, rel=0.05)  # 30 documents


def test_copies_of_documents_add_no_evidence() -> None:
    """Each sample three times, under one document, has the p of the sample once."""
    before, after = scores(9, 10)
    once = outcome(scored(before, after))
    copied = outcome(
        scored(np.tile(before, 3), np.tile(after, 3), documents=np.tile(np.arange(10), 3))
    )
    assert replace(copied, error=nan, freedom=0) == replace(once, error=nan, freedom=0)
    assert copied.error == pytest.approx(once.error, rel=1e-9)


def test_scores_of_several_tasks_change_sign_apart() -> None:
    """Four and six documents of two tasks are ten of one: scipy's p of all of them."""
    before, after = scores(10, 10)
    parts = [scored(before[part], after[part]) for part in (slice(4), slice(4, 10))]
    found = outcome(*parts)
    assert (found.method, found.two_sided) == ("permutation", scipys(after - before, "two-sided"))


def test_scores_that_all_moved_alike_are_no_certainty() -> None:
    """Five documents that all fell by 0.125: 1 in 32 one-sided, 2 in 32 two-sided. t would say 0."""
    before = np.array([0.25, 0.5, 0.75, 0.875, 1.0])
    fell = outcome(scored(before, before - 0.125))
    assert (fell.two_sided, fell.loss) == (2 / 32, 1 / 32)
    rose = outcome(scored(before - 0.125, before))
    assert (rose.two_sided, rose.loss) == (2 / 32, 1.0)


# Student's t


@pytest.mark.parametrize("device", DEVICES)
def test_perplexities_are_tested_by_students_t(device: str) -> None:
    """A rise is a loss: half of statsmodels' two-sided p, the other half where it falls."""
    texts = paired.texts(11, worse=0.004)
    fit = paired.regression(
        texts.baseline - texts.compressed, np.arange(40), 1 / texts.words, texts.words
    )
    found = outcome(texts.paired(device=device))
    assert found.method == "t"
    assert found.two_sided == pytest.approx(float(fit.pvalues[0]), rel=1e-8)
    expected = stats.t.sf(float(fit.tvalues[0]), fit.freedom)
    assert found.loss == pytest.approx(expected, rel=1e-8)
    better = outcome(Texts(texts.compressed, texts.baseline, texts.words).paired(device=device))
    assert better.loss == pytest.approx(1 - expected, rel=1e-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["right or wrong", "scores", "lower is better"])
def test_many_tasks_are_clusters_of_a_t_test(kind: str, device: str) -> None:
    """One-sided by Bell and McCaffrey's error; the ways up are heeded."""
    if kind == "right or wrong":
        tasks = paired.tasks(13)
        metrics = [asked.paired(device=device) for asked in tasks]
        gains = [asked.change for asked in tasks]
    else:
        lower = kind == "lower is better"
        both = [scores(20 + i, 12 + i, worse=0.02 * (i % 3)) for i in range(13)]
        metrics = [scored(*own, lower_is_better=lower, device=device) for own in both]
        gains = [(before - after) if lower else (after - before) for before, after in both]
    fit = paired.regression(
        np.concatenate(gains), np.repeat(np.arange(13), [len(own) for own in gains])
    )
    alone, _ = paired.stratified(gains)
    found = outcome(*metrics)
    assert found.method == "t"
    # never with a smaller error than the samples alone have
    t = float(fit.params[0]) / max(float(fit.bse[0]), alone)
    assert found.two_sided == pytest.approx(2 * stats.t.sf(abs(t), fit.freedom), rel=1e-7)
    assert found.loss == pytest.approx(stats.t.cdf(t, fit.freedom), rel=1e-7)
    nine = outcome(*metrics[:9])
    assert nine.method == ("exact McNemar" if kind == "right or wrong" else "permutation")


@pytest.mark.parametrize("kind", ["right or wrong", "scores"])
def test_a_fields_clusters_change_sign(kind: str) -> None:
    """Eight values of a field over one task: scipy's permutation test of their sums."""
    labels = np.arange(40) % 8
    if kind == "scores":
        before, after = scores(31, 40)
        metric, gain = scored(before, after), after - before
    else:
        asked = paired.questions(31, 40)
        metric, gain = asked.paired(), asked.change
    sums = np.bincount(labels, weights=gain).astype(np.float64)
    found = outcome(by_field(metric, labels))
    assert found.method == "permutation"
    assert found.two_sided == pytest.approx(scipys(sums, "two-sided"), rel=1e-9)
    assert found.loss == pytest.approx(scipys(sums, "less"), rel=1e-9)
    assert outcome(metric).two_sided != pytest.approx(found.two_sided, rel=0.01)


def test_two_clusters_are_no_evidence() -> None:
    """One loss in each of two clusters of a hundred: p is one half, and the change may be 0.

    The error is 0 but for rounding; taken at its word p would be 0 and the interval a point.
    """
    right = [("a", 1.0)] * 200
    wrong = [("b", float(i not in (3, 150))) for i in range(200)]
    metric = by_field(paired.generated("task", right, wrong), np.arange(200) // 100)
    row = measure([metric], name="task")
    assert (row.p_value, row.p_loss) == (0.5, 0.25)
    low, high = row.intervals["score_change"]
    assert low < -0.05
    assert high >= 0
    assert "too few to tell much" in row.error_method


# Nothing to test


@pytest.mark.parametrize("count", [1, 3, 12])
def test_where_nothing_changed_there_is_nothing_to_test(count: int) -> None:
    """Nan on both sides, be it answers, scores or texts, of one task or of ten."""
    asked = [replace(own, compressed=own.baseline) for own in paired.tasks(count)]
    texts = [paired.texts(i, 12) for i in range(count)]
    for metrics in (
        [own.paired() for own in asked],
        [scored([0.25, 0.5], [0.25, 0.5]) for _ in range(count)],
        [Texts(own.baseline, own.baseline, own.words).paired() for own in texts],
    ):
        found = outcome(*metrics)
        assert isnan(found.two_sided)
        assert isnan(found.loss)


def test_one_cluster_has_nothing_to_test() -> None:
    """A field with one value, or one text: no error, no p."""
    metric = by_field(paired.questions(33, 20).paired(), np.zeros(20, np.int64))
    for own in (metric, paired.texts(33, 1).paired()):
        found = outcome(own)
        assert isnan(found.two_sided)
        assert isnan(found.loss)
