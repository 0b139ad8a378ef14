"""Rows: one task, groups and pools, built from records through the real pairing.

Every expected number is computed from the raw scores by numpy, scipy, statsmodels or scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf, isnan, log, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips.comparison.result import Row
from lm_eval_flips.comparison.row import measure
from lm_eval_flips.errors import FlipsError
from lm_eval_flips.logs.records import Request
from lm_eval_flips.measures.auroc import auroc
from tests.generators import paired
from tests.generators.paired import CHOICES, DEVICES, UNDEFINED, Questions

SIGNS = ("empty", "invalid", "looped", "truncated")
# what is told of any two texts
WRITTEN = {
    *(f"{side}_{name}" for side in ("baseline", "compressed") for name in ("length", *SIGNS)),
    *(f"{name}_change" for name in SIGNS),
    *("length_ratio", "script_switched", "same_text"),
}


def _assert_equal(found: Row, expected: Row, *, names: Iterable[str]) -> None:
    for name in names:
        assert getattr(found, name) == getattr(expected, name), name


# One task


def test_task_counted_by_hand() -> None:
    """Six questions: 4 then 3 right, 2 lost, 1 won, 1 from wrong to wrong; every share by hand."""
    p = {
        "sure of 0": [0.7, 0.2, 0.1],
        "sure of 1": [0.2, 0.7, 0.1],
        "sure of 2": [0.1, 0.2, 0.7],
        "torn to 0": [0.5, 0.4, 0.1],
        "torn to 1": [0.4, 0.5, 0.1],
    }
    answers = (
        ("sure of 0", "sure of 0"),
        ("sure of 0", "torn to 0"),
        ("torn to 0", "torn to 1"),  # lost
        ("torn to 0", "sure of 2"),  # lost
        ("torn to 1", "torn to 0"),  # won
        ("torn to 1", "sure of 2"),  # wrong to wrong
    )
    found = measure(
        [
            Questions(
                np.log([p[before] for before, _ in answers]),
                np.log([p[after] for _, after in answers]),
                np.zeros(6, np.int64),
            ).paired()
        ],
        name="trees",
    )
    assert (found.name, found.filter, found.metric, found.n) == ("trees", "none", "acc", 6)
    assert (found.baseline_score, found.compressed_score) == pytest.approx((4 / 6, 3 / 6))
    assert found.score_change == pytest.approx(-1 / 6)
    flips = found.flips
    assert flips is not None
    assert (flips.correct_to_incorrect, flips.incorrect_to_correct) == (2, 1)
    assert (flips.wrong_to_wrong, flips.answers_changed, flips.baseline_correct) == (1, 4, 4)
    assert (flips.flips, flips.all_flips) == pytest.approx((3 / 6, 4 / 6))
    assert found.p_value == 1.0
    margins = found.margins
    assert margins is not None
    assert margins.mean_correct == pytest.approx((0.5 + 0.5 + 0.1 + 0.1) / 4)
    assert margins.mean_incorrect == pytest.approx(0.1)
    assert (margins.correct.share, margins.incorrect.share) == (0.5, 1.0)
    assert found.distances is not None
    torn = 0.1 * log(5 / 4)  # KL of (.5, .4, .1) from (.4, .5, .1)
    assert found.distances.n == 6
    assert found.distances.choice_kl.max > torn
    assert found.error_method == "independent samples"
    assert found.perplexity is None


@pytest.mark.parametrize("device", DEVICES)
def test_task_matches_scipy_statsmodels_and_sklearn(device: str) -> None:
    """Every number of a task of 120 questions equals an independent library's."""
    asked = paired.questions(1)
    before, after = asked.correct
    found = measure([asked.paired(device=device)], name="questions")
    flipped, changed = asked.indicators["flips"], asked.indicators["answers_changed"]
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert found.score_change == pytest.approx(after.mean() - before.mean(), rel=1e-12)
    assert found.distances.choice_kl.mean == pytest.approx(asked.kl.mean(), rel=1e-9)
    assert found.distances.choice_kl.p99 == pytest.approx(np.quantile(asked.kl, 0.99), rel=1e-9)
    assert found.distances.choice_kl_reverse.mean == pytest.approx(asked.swapped().kl.mean())
    shannon = [
        jensenshannon(softmax(p), softmax(q)) ** 2
        for p, q in zip(asked.baseline, asked.compressed, strict=True)
    ]
    assert found.distances.jensen_shannon.median == pytest.approx(np.median(shannon), rel=1e-9)
    assert found.correlation.changed.statistic == pytest.approx(
        stats.spearmanr(asked.kl, changed).statistic, rel=1e-9
    )
    assert found.correlation.flipped.statistic == pytest.approx(
        stats.spearmanr(asked.kl, flipped).statistic, rel=1e-9
    )
    assert found.correlation.detects_flips.statistic == pytest.approx(
        roc_auc_score(flipped, asked.kl), rel=1e-9
    )
    table = [
        [(before & after).sum(), (before & ~after).sum()],
        [(~before & after).sum(), (~before & ~after).sum()],
    ]
    assert found.p_value == pytest.approx(mcnemar(table, exact=True).pvalue, rel=1e-9)


def test_oracle_checks_can_fail() -> None:
    """Control for the tests above: one answer changed for another moves the oracles away."""
    asked = paired.questions(2)
    place = int((asked.indicators["flips"] == 0).argmax())
    worse = asked.compressed.copy()
    worse[place] = asked.baseline[place]
    worse[place, asked.gold[place]] += 50 if not asked.correct[0][place] else -50
    spoilt = Questions(asked.baseline, worse, asked.gold)
    found = measure([spoilt.paired()], name="questions")
    expected = proportion_confint(asked.indicators["flips"].sum(), 120, method="wilson")
    assert found.intervals["flips"] != pytest.approx(expected, rel=1e-3)
    assert found.distances is not None
    assert found.distances.choice_kl.mean != pytest.approx(asked.kl.mean(), rel=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_swapping_runs_swaps_the_directions(device: str) -> None:
    """Exchanging the runs negates the change, swaps lost with won and KL with reverse KL."""
    asked = paired.questions(3)
    there = measure([asked.paired(device=device)], name="questions")
    back = measure([asked.swapped().paired(device=device)], name="questions")
    assert back.score_change == -there.score_change
    assert there.flips is not None
    assert back.flips is not None
    assert there.flips.correct_to_incorrect == back.flips.incorrect_to_correct
    assert there.distances is not None
    assert back.distances is not None
    assert there.distances.choice_kl == back.distances.choice_kl_reverse
    assert there.distances.total_variation == back.distances.total_variation
    assert there.p_value == pytest.approx(back.p_value, rel=1e-12)
    low, high = there.intervals["score_change"]
    assert back.intervals["score_change"] == pytest.approx((-high, -low), rel=1e-9)
    for left, right in (
        ("correct_to_incorrect_share", "incorrect_to_correct_share"),
        ("flips", "flips"),
        ("all_flips", "all_flips"),
        ("answers_changed_share", "answers_changed_share"),
    ):
        assert there.intervals[left] == back.intervals[right]


@pytest.mark.parametrize("device", DEVICES)
def test_identical_runs_flip_nothing(device: str) -> None:
    """A run compared with itself has no flip, a KL of exactly 0, and nothing to test."""
    asked = paired.questions(4)
    same = Questions(asked.baseline, asked.baseline.copy(), asked.gold)
    found = measure([same.paired(device=device)], name="questions")
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert (found.flips.flips, found.flips.all_flips, found.score_change) == (0.0, 0.0, 0.0)
    kl = found.distances.choice_kl
    assert (kl.mean, kl.median, kl.p99, kl.max) == (0.0, 0.0, 0.0, 0.0)
    assert isnan(found.p_value)
    assert isnan(found.correlation.flipped.statistic)
    assert isnan(found.correlation.detects_flips.statistic)
    assert found.intervals["flips"] == pytest.approx(
        proportion_confint(0, 120, method="wilson"), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("device", DEVICES)
def test_identical_runs_check_can_fail(device: str) -> None:
    """Control for the test above: one answer lost out of 120 must be seen everywhere."""
    asked = paired.questions(4)
    compressed = asked.baseline.copy()
    place = int(asked.correct[0].argmax())
    compressed[place, asked.gold[place]] -= 50
    found = measure(
        [Questions(asked.baseline, compressed, asked.gold).paired(device=device)], name="questions"
    )
    assert found.flips is not None
    assert found.distances is not None
    assert found.correlation is not None
    assert found.flips.correct_to_incorrect == 1
    assert found.score_change == pytest.approx(-1 / 120)
    assert found.distances.choice_kl.max > 1
    assert found.correlation.detects_flips.statistic == 1.0
    assert found.p_value == 1.0


def test_normalised_metric_compares_normalised_loglikelihoods() -> None:
    """acc_norm's answers are those of the log-likelihoods per character; its KL is the raw one."""
    asked = paired.questions(5)
    lengths = np.array([len(choice) for choice in CHOICES])
    scaled = Questions(asked.baseline / lengths, asked.compressed / lengths, asked.gold)
    found = measure([asked.paired(metric="acc_norm")], name="questions")
    assert found.distances is not None
    assert found.flips is not None
    assert found.metric == "acc_norm"
    assert found.distances.choice_kl.mean == pytest.approx(asked.kl.mean(), rel=1e-9)
    assert found.flips.answers_changed == scaled.indicators["answers_changed"].sum()
    raw = measure([asked.paired()], name="questions")
    assert raw.distances is not None
    assert raw.distances.choice_kl.mean == found.distances.choice_kl.mean
    assert raw.distances.choice_kl.mean != pytest.approx(scaled.kl.mean(), rel=0.1)  # control


def test_choice_ruled_out_by_the_compressed_run_makes_the_mean_kl_infinite() -> None:
    """One infinite KL is shown as such: mean and max inf without an interval, median finite."""
    asked = paired.questions(6)
    compressed = asked.compressed.copy()
    compressed[0, int(asked.baseline[0].argmax())] = -inf
    found = measure([Questions(asked.baseline, compressed, asked.gold).paired()], name="questions")
    assert found.distances is not None
    assert (found.distances.choice_kl.mean, found.distances.choice_kl.max) == (inf, inf)
    assert 0 < found.distances.choice_kl.median < inf
    assert found.intervals["choice_kl"] == UNDEFINED
    assert found.intervals["choice_kl_median"].high < inf


def test_one_sample_has_shares_but_no_error() -> None:
    """A single lost answer: share 1 with Wilson's interval; a mean of one has none."""
    lost = Questions(np.log([[0.6, 0.4]]), np.log([[0.4, 0.6]]), np.array([0]))
    found = measure([lost.paired()], name="one")
    assert found.n == 1
    assert found.flips is not None
    assert found.flips.flips == 1.0
    assert found.p_value == 1.0
    assert found.intervals["choice_kl"] == UNDEFINED
    assert found.intervals["choice_kl_median"] == UNDEFINED
    low, high = found.intervals["score_change"]  # of a share, as wide as one answer leaves it
    assert low == -1.0
    # Wilson's interval of one of one begins at 1 / (1 + z^2); the change's end lies so far above
    assert high == pytest.approx(-1 + sqrt(2) * (1 - 1 / (1 + 1.959964**2)), abs=1e-5)
    assert found.intervals["flips"] == pytest.approx(
        proportion_confint(1, 1, method="wilson"), rel=1e-9
    )
    assert found.correlation is not None
    assert isnan(found.correlation.flipped.statistic)
    assert found.margins is not None
    assert isnan(found.margins.mean_incorrect)


# Groups and pools


def test_pooled_counts_add_up() -> None:
    """Counts and bins of a pool are the sums over its tasks, scores the mean over all samples."""
    tasks = paired.tasks(4)
    rows = [measure([asked.paired()], name="task") for asked in tasks]
    found = paired.pooled(tasks)
    assert found.n == sum(row.n for row in rows)
    assert found.baseline_score == pytest.approx(
        sum(row.baseline_score * row.n for row in rows) / found.n, rel=1e-12
    )
    flips = [row.flips for row in rows if row.flips is not None]
    assert found.flips is not None
    for name in ("n", "correct_to_incorrect", "incorrect_to_correct", "wrong_to_wrong"):
        assert getattr(found.flips, name) == sum(getattr(part, name) for part in flips)
    distances = [row.distances for row in rows if row.distances is not None]
    assert found.distances is not None
    assert found.distances.n == found.n
    assert found.distances.choice_kl.max == max(part.choice_kl.max for part in distances)
    margins = [row.margins for row in rows if row.margins is not None]
    assert found.margins is not None
    for i, margin_bin in enumerate(found.margins.bins):
        assert margin_bin.rate.n == sum(part.bins[i].rate.n for part in margins)
        assert margin_bin.rate.changed == sum(part.bins[i].rate.changed for part in margins)


def test_splitting_a_task_changes_its_error_alone() -> None:
    """One task, or the same samples as two tasks pooled: the same counts, scores and distances."""
    asked = paired.questions(10)
    whole = measure([asked.paired()], name="pooled")
    parts = paired.pooled([asked.part(slice(None, 50)), asked.part(slice(50, None))])
    _assert_equal(
        parts, whole, names=("n", "metric", "filter", "baseline_score", "compressed_score", "flips")
    )
    assert parts.p_value == whole.p_value
    assert parts.correlation is not None
    assert whole.correlation is not None
    assert parts.correlation.flipped == whole.correlation.flipped
    # pairs of a flip and none are taken within the parts
    sizes = [50, len(asked.gold) - 50]
    areas = [
        auroc(score=torch.from_numpy(kl), positive=torch.from_numpy(flips > 0))
        for kl, flips in zip(
            np.split(asked.kl, [50]), np.split(asked.indicators["flips"], [50]), strict=True
        )
    ]
    assert [own.positives + own.negatives for own in areas] == sizes
    expected = np.average(
        [own.statistic for own in areas], weights=[own.positives * own.negatives for own in areas]
    )
    assert parts.correlation.detects_flips.statistic == pytest.approx(expected, rel=1e-9)
    assert parts.margins is not None
    assert whole.margins is not None
    counted = [[(b.rate.n, b.rate.changed) for b in m.bins] for m in (parts.margins, whole.margins)]
    assert counted[0] == counted[1]
    assert parts.distances is not None
    assert whole.distances is not None
    assert parts.distances.choice_kl.mean == pytest.approx(whole.distances.choice_kl.mean)
    assert (parts.error_method, whole.error_method) == (
        "stratified by task (2)",
        "independent samples",
    )


def test_order_of_the_tasks_does_not_matter() -> None:
    """Pooling the tasks backwards gives the same row, to rounding."""
    tasks = paired.tasks(4)
    there, back = paired.pooled(tasks), paired.pooled(tasks[::-1])
    _assert_equal(back, there, names=("n", "flips", "p_value", "error_method"))
    for name, interval in there.intervals.items():
        assert back.intervals[name] == pytest.approx(interval, rel=1e-9, nan_ok=True), name


def test_mixed_metrics_and_filters_are_called_mixed() -> None:
    """A pool of different metrics or filters says so instead of naming one of them."""
    asked = paired.questions(11)
    found = measure(
        [asked.paired("a", "acc"), asked.paired("b", "acc_norm", filter="strict")], name="pooled"
    )
    assert (found.metric, found.filter) == ("mixed", "mixed")
    same = measure([asked.paired("a", "acc"), asked.paired("b", "acc")], name="pooled")
    assert (same.metric, same.filter) == ("acc", "none")


def test_pool_with_generated_text_measures_choices_where_there_are_any() -> None:
    """Flips count every sample; distances and margins those with choices; AllFlips is undefined."""
    asked = paired.questions(12, 40)
    text = paired.generated(
        "gsm8k",
        [("42", 1.0), ("41", 0.0), ("7", 0.0), ("42", 1.0)],
        [("42", 1.0), ("42", 1.0), ("8", 0.0), ("43", 0.0)],
    )
    found = measure([asked.paired("arc"), text], name="pooled")
    alone = measure([asked.paired("arc")], name="arc")
    assert found.n == 44
    assert found.flips is not None
    assert alone.flips is not None
    assert found.flips.correct_to_incorrect == alone.flips.correct_to_incorrect + 1
    assert found.flips.incorrect_to_correct == alone.flips.incorrect_to_correct + 1
    assert alone.flips.answers_changed is not None
    assert found.flips.answers_changed == alone.flips.answers_changed + 3
    assert found.flips.wrong_to_wrong is None
    assert "all_flips" not in found.intervals
    _assert_equal(found, alone, names=("distances", "margins", "correlation"))
    assert found.intervals["choice_kl"] == alone.intervals["choice_kl"]


# Metrics without choices


def test_generated_text_counts_flips_and_changed_answers() -> None:
    """Of five answers one is lost, one won, one changed while wrong; there is no distance."""
    found = measure(
        [
            paired.generated(
                "gsm8k",
                [("42", 1.0), ("42", 1.0), ("41", 0.0), ("7", 0.0), ("8", 0.0)],
                [("42", 1.0), ("40", 0.0), ("42", 1.0), ("9", 0.0), ("8", 0.0)],
            )
        ],
        name="gsm8k",
    )
    assert found.flips is not None
    assert (found.flips.correct_to_incorrect, found.flips.incorrect_to_correct) == (1, 1)
    assert (found.flips.answers_changed, found.flips.wrong_to_wrong) == (3, None)
    assert (found.distances, found.margins, found.correlation) == (None, None, None)
    expected = proportion_confint(3, 5, method="wilson")
    assert found.intervals["answers_changed_share"] == pytest.approx(expected, rel=1e-9)
    assert set(found.intervals) - WRITTEN == {
        "recovery",
        "score_change",
        "correct_to_incorrect_share",
        "incorrect_to_correct_share",
        "flips",
        "answers_changed_share",
        "loss_share",
        "negative_flip_rate",
    }


def test_metric_whose_lower_value_is_better_is_correct_at_zero() -> None:
    """For an error rate 0 is correct: 0 to 1 is lost, although the score rose."""
    found = measure(
        [
            paired.generated(
                "toxic",
                [("a", 0.0), ("b", 0.0), ("c", 1.0)],
                [("d", 1.0), ("b", 0.0), ("c", 1.0)],
                metric="error",
                lower_is_better=True,
            )
        ],
        name="toxic",
    )
    assert found.flips is not None
    assert (found.flips.correct_to_incorrect, found.flips.incorrect_to_correct) == (1, 0)
    assert found.flips.baseline_correct == 2
    assert found.score_change == pytest.approx(1 / 3)


def test_score_that_is_not_binary_has_scipys_interval_and_permutation_test() -> None:
    """A score between 0 and 1 has no flips; change and interval equal scipy's ttest_rel."""
    generator = np.random.default_rng(13)
    before = generator.random(30)
    after = np.clip(before - 0.05 + 0.1 * generator.normal(size=30), 0, 1)
    found = measure(
        [
            paired.generated(
                "squad",
                [("x", float(score)) for score in before],
                [("y", float(score)) for score in after],
                metric="f1",
            )
        ],
        name="squad",
    )
    expected = stats.ttest_rel(after, before)
    ci = expected.confidence_interval(0.95)
    assert found.flips is None
    assert found.score_change == pytest.approx((after - before).mean(), rel=1e-9)
    drawn = stats.permutation_test(
        (after - before,), np.mean, permutation_type="samples", rng=np.random.default_rng(0)
    )
    assert found.p_value == pytest.approx(drawn.pvalue, abs=0.01)
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.01)
    assert set(found.intervals) - WRITTEN == {"score_change", "recovery"}
    assert found.intervals["score_change"] == pytest.approx((ci.low, ci.high), rel=1e-9)
    assert found.p_value != pytest.approx(stats.ttest_ind(after, before).pvalue, rel=0.1)


def test_score_of_one_sample_has_no_interval() -> None:
    """One sample has no error, and so no interval; its sign may as well have been the other."""
    found = measure(
        [paired.generated("squad", [("x", 0.5)], [("y", 0.4)], metric="f1")], name="squad"
    )
    assert found.score_change == pytest.approx(-0.1)
    assert (found.p_value, found.p_loss) == (1.0, 0.5)
    assert found.intervals["score_change"] == UNDEFINED


# Samples that cannot be used


def _mutual(i: int, unconditional: float) -> Any:
    """A question of two choices, of which acc_mutual_info subtracts -3 and this."""
    requests = [
        Request(arg_0=asked, arg_1=text) for asked in (f"Q{i}", "") for text in (" a", " b")
    ]
    return paired.record(
        i,
        requests=requests,
        responses=[[value, False] for value in (-1.0, -2.0, -3.0, unconditional)],
        metrics={"acc": 1.0, "acc_mutual_info": float(-2 - unconditional <= 2)},
        target="0",
    )


@pytest.mark.parametrize("unusable", [nan, inf, -inf])
def test_unconditional_that_is_not_finite_is_refused(unusable: float) -> None:
    """What acc_mutual_info would subtract makes a sample as unusable as any other nan."""
    sides = [[_mutual(0, -2.5)], [_mutual(0, unusable)]]
    with pytest.raises(FlipsError, match="unconditional log-likelihood is not finite"):
        paired.task_metrics("mutual", "multiple_choice", sides)


@pytest.mark.parametrize("unusable", [nan, inf, -inf])
def test_unconditional_that_is_not_finite_can_be_left_out(unusable: float) -> None:
    """Excluded, the sample counts in no metric of either run; the others count as without it."""
    after = (-2.0, -6.0, -3.0)
    sides = [[_mutual(i, -2.5) for i in range(3)], [_mutual(i, v) for i, v in enumerate(after)]]
    expected = paired.task_metrics("mutual", "multiple_choice", sides)
    sides = [
        [*side, _mutual(3, value)] for side, value in zip(sides, (-2.5, unusable), strict=True)
    ]
    found = paired.task_metrics("mutual", "multiple_choice", sides, on_nan="exclude")
    assert set(found) == {"acc", "acc_mutual_info"}
    for name, metric in found.items():
        row, without = (measure([m], name=name) for m in (metric, expected[name]))
        assert row.n == 3
        _assert_equal(row, without, names=("flips", "distances", "score_change"))
    mutual = measure([found["acc_mutual_info"]], name="mutual")
    assert mutual.flips is not None
    assert mutual.flips.correct_to_incorrect == 1


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_minimal_detectable_change_is_found_with_its_power(power: float) -> None:
    """The printed test finds it with that power; the normal law says about as much."""
    row = measure([paired.questions(2, 400).paired()], name="questions")
    assert row.flips is not None
    change, flips = row.minimal_detectable_change(power=power), row.flips.flips
    moved = max(flips, change)
    lost, won = (moved + change) / 2, (moved - change) / 2
    rng = np.random.default_rng(1)
    tables = rng.multinomial(400, [lost, won, 1 - lost - won], 4000)
    found = np.mean([stats.binomtest(int(a), int(a + b)).pvalue < 0.05 for a, b, _ in tables])
    assert found == pytest.approx(power, abs=0.03)
    textbook = (stats.norm.ppf(0.975) + stats.norm.ppf(power)) * sqrt(flips / 400)
    assert change == pytest.approx(textbook, rel=0.12)
