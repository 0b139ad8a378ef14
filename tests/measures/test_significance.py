"""Intervals and tests: statsmodels, scipy, exact enumeration, and simulated coverage."""

from __future__ import annotations

from math import isnan, nan, sqrt

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from lm_eval_flips.measures.clustered import standard_error
from lm_eval_flips.measures.shares import share_above, share_interval, wilson
from lm_eval_flips.measures.significance import (
    binomial_test,
    holm,
    mcnemar,
    mcnemar_loss,
    mean_interval,
    t_loss,
    t_test,
)

MANY = 10**9  # degrees of freedom at which t is the normal
UNDEFINED = pytest.approx((nan, nan), nan_ok=True)


def _in_clusters(
    generator: torch.Generator, clusters: int = 30, size: int = 5
) -> tuple[Tensor, Tensor]:
    """Values whose cluster explains half of their variance, with mean 0."""
    place = torch.arange(clusters).repeat_interleave(size)
    shared = torch.randn(clusters, generator=generator, dtype=torch.float64)
    own = torch.randn(clusters * size, generator=generator, dtype=torch.float64)
    return shared[place] + own, place


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("count", "n"), [(0, 1), (1, 1), (0, 50), (5, 100), (50, 50), (7, 14042)])
def test_wilson_matches_statsmodels(count: int, n: int, level: float) -> None:
    """Wilson's interval equals statsmodels', also where no sample or every sample counts."""
    expected = proportion_confint(count, n, alpha=1 - level, method="wilson")
    assert wilson(count, n, level=level) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_wilson_check_can_fail() -> None:
    """Control for the test above: one more counted sample of 100 is seen."""
    expected = proportion_confint(5, 100, method="wilson")
    assert wilson(6, 100) != pytest.approx(expected, rel=1e-2)


def test_wilson_of_the_complement_is_mirrored() -> None:
    """Counting the other samples mirrors the interval at one half, and both stay in 0..1."""
    low, high = wilson(3, 20)
    assert wilson(17, 20) == pytest.approx((1 - high, 1 - low), rel=1e-12)
    assert wilson(0, 20).low == 0.0
    assert wilson(20, 20).high == 1.0


def test_wilson_of_no_samples_is_nan() -> None:
    """No samples have no share and no interval."""
    assert wilson(0, 0) == UNDEFINED


def test_wilson_covers_by_enumeration() -> None:
    """Over all outcomes of 100 samples at 5, 10 and 30 % the interval covers 93 to 98 %."""
    intervals = [wilson(k, 100) for k in range(101)]
    for p in (0.05, 0.1, 0.3):
        chance = stats.binom.pmf(np.arange(101), 100, p)
        inside = [low <= p <= high for low, high in intervals]
        covered = chance[inside].sum()
        assert 0.93 <= covered <= 0.98


@pytest.mark.parametrize(("lost", "won"), [(1, 0), (3, 0), (9, 1), (31, 24), (20, 20), (600, 500)])
def test_mcnemar_matches_statsmodels(lost: int, won: int) -> None:
    """The exact two-sided p equals statsmodels'."""
    expected = statsmodels_mcnemar([[7, won], [lost, 11]], exact=True).pvalue
    assert mcnemar(lost=lost, won=won) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_counted_by_hand() -> None:
    """Three coins on one side: 2 * (1/2)^3 = 1/4; one: 1; as many on both: 1."""
    assert mcnemar(lost=3, won=0) == pytest.approx(0.25, rel=1e-12)
    assert mcnemar(lost=1, won=0) == 1.0
    assert mcnemar(lost=4, won=4) == 1.0


def test_mcnemar_is_two_sided() -> None:
    """Swapping the runs leaves the p-value; one more lost answer changes it."""
    assert mcnemar(lost=12, won=3) == mcnemar(lost=3, won=12)
    assert mcnemar(lost=13, won=3) < mcnemar(lost=12, won=3)


def test_mcnemar_without_discordant_pairs_is_nan() -> None:
    """No pair differs, so there is nothing to test; 1 would look like evidence of equality."""
    assert isnan(mcnemar(lost=0, won=0))


@pytest.mark.parametrize(
    ("lost", "won"), [(9, 1), (1, 9), (1, 0), (0, 1), (20, 20), (31, 24), (600, 500), (400, 0)]
)
def test_mcnemar_of_a_loss_is_scipys_one_sided_test(lost: int, won: int) -> None:
    """Of so many or more lost by fair coins; small where more is lost, also far below 1e-16."""
    expected = stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    assert mcnemar_loss(lost=lost, won=won) == pytest.approx(expected, rel=1e-9)
    # control: the other side is another test
    other = stats.binomtest(lost, lost + won, 0.5, alternative="less").pvalue
    assert lost == won or mcnemar_loss(lost=lost, won=won) != pytest.approx(other, rel=1e-2)


@pytest.mark.parametrize(("lost", "won"), [(9, 1), (3, 12), (1, 0), (40, 45)])
def test_both_sides_of_mcnemar_share_the_counts_as_they_are(lost: int, won: int) -> None:
    """Their sum is 1 and the chance of just these; twice the smaller is the two-sided p."""
    loss, gain = mcnemar_loss(lost=lost, won=won), mcnemar_loss(lost=won, won=lost)
    assert loss + gain == pytest.approx(1 + stats.binom.pmf(lost, lost + won, 0.5), rel=1e-12)
    assert mcnemar(lost=lost, won=won) == pytest.approx(min(1, 2 * min(loss, gain)), rel=1e-12)


def test_mcnemar_of_a_loss_counted_by_hand() -> None:
    """Three lost: 1/8; two of three: 4/8; none of three: 1; without a pair: nan."""
    found = [mcnemar_loss(lost=lost, won=3 - lost) for lost in (3, 2, 0)]
    assert found == pytest.approx([1 / 8, 4 / 8, 1], rel=1e-12)
    assert isnan(mcnemar_loss(lost=0, won=0))


@pytest.mark.parametrize("change", [-0.31, -0.02, 0.0, 0.11])
@pytest.mark.parametrize("freedom", [1, 9, 4000])
def test_t_tests_are_scipys(change: float, freedom: int) -> None:
    """Two-sided, and one-sided of no loss: scipy's distribution of Student's t."""
    t = change / 0.1
    assert t_loss(change, 0.1, freedom) == pytest.approx(stats.t.cdf(t, freedom), rel=1e-10)
    assert t_test(change, 0.1, freedom) == pytest.approx(2 * stats.t.sf(abs(t), freedom), rel=1e-10)
    assert t_loss(-change, 0.1, freedom) == pytest.approx(1 - stats.t.cdf(t, freedom), rel=1e-9)


def test_t_tests_of_a_sample_are_scipys(generator: torch.Generator) -> None:
    """With the standard error of 40 values they are those of scipy's one-sample test."""
    values = torch.randn(40, generator=generator, dtype=torch.float64) - 0.2
    found = float(values.mean()), *standard_error(values, torch.arange(40))
    less = stats.ttest_1samp(values.numpy(), 0, alternative="less").pvalue
    assert t_loss(*found) == pytest.approx(less, rel=1e-10)
    both = stats.ttest_1samp(values.numpy(), 0).pvalue
    assert t_test(*found) == pytest.approx(both, rel=1e-10)
    assert less != pytest.approx(both, rel=0.1)


def test_t_tests_without_an_error_have_nothing_to_test() -> None:
    """One cluster, no change, or no degrees of freedom: nan. All alike and moved: certain."""
    for change, error, freedom in ((0.1, nan, 9), (nan, 0.1, 9), (0.0, 0.0, 9), (0.1, 0.1, 0)):
        assert isnan(t_loss(change, error, freedom))
        assert isnan(t_test(change, error, freedom))
    assert (t_loss(-0.1, 0.0, 9), t_test(-0.1, 0.0, 9)) == (0.0, 0.0)
    assert (t_loss(0.1, 0.0, 9), t_test(0.1, 0.0, 9)) == (1.0, 0.0)


@pytest.mark.parametrize(("count", "n"), [(1, 174), (5, 100), (40, 60), (100, 100)])
@pytest.mark.parametrize("threshold", [0.001, 0.03, 0.5])
def test_share_above_is_scipys_binomial_test(count: int, n: int, threshold: float) -> None:
    """The one-sided exact test; Clopper and Pearson's lower end is where it is 2.5 %."""
    expected = stats.binomtest(count, n, threshold, alternative="greater").pvalue
    assert share_above(count / n, n, threshold) == pytest.approx(expected, rel=1e-9)
    low, _ = proportion_confint(count, n, method="beta")
    assert share_above(count / n, n, float(low)) == pytest.approx(0.025, rel=1e-6)


def test_share_above_of_none_shows_nothing() -> None:
    """No sample that counts is no evidence of any share; no sample is no p."""
    assert share_above(0.0, 50, 0.001) == 1.0
    assert isnan(share_above(nan, 50, 0.1))
    assert isnan(share_above(0.1, 0, 0.1))


def test_mean_interval_matches_scipy(generator: torch.Generator) -> None:
    """The interval equals that of scipy's one-sample t test."""
    values = torch.randn(25, generator=generator, dtype=torch.float64)
    expected = stats.ttest_1samp(values.numpy(), 0).confidence_interval(0.9)
    found = mean_interval(
        float(values.mean()), *standard_error(values, torch.arange(25)), level=0.9
    )
    assert found == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert found != pytest.approx((expected.low + 0.01, expected.high), rel=1e-3)


def test_mean_interval_with_clusters_matches_statsmodels(generator: torch.Generator) -> None:
    """With clusters it equals statsmodels' cluster-robust interval on the t distribution."""
    values, clusters = _in_clusters(generator)
    fit = sm.OLS(values.numpy(), np.ones(150)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters.numpy()}, use_t=True
    )
    found = mean_interval(float(values.mean()), *standard_error(values, clusters))
    assert found == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("mean", "error", "freedom"), [(nan, 1.0, 5), (0.0, nan, 5), (0.0, 1.0, 0)]
)
def test_mean_interval_without_an_error_is_nan(mean: float, error: float, freedom: int) -> None:
    """No mean, no error or no degrees of freedom: no interval."""
    assert mean_interval(mean, error, freedom) == UNDEFINED


def test_clustered_mean_interval_covers(generator: torch.Generator) -> None:
    """Over 400 samples of 30 clusters of five the 95 % interval holds the mean in about 95 %.

    Control: taking the 150 samples as independent covers far less.
    """
    trials, covered, naive = 400, 0, 0
    for _ in range(trials):
        values, clusters = _in_clusters(generator)
        mean = float(values.mean())
        low, high = mean_interval(mean, *standard_error(values, clusters))
        covered += low <= 0 <= high
        low, high = mean_interval(mean, *standard_error(values, torch.arange(150)))
        naive += low <= 0 <= high
    assert 0.92 <= covered / trials <= 0.98
    assert naive / trials < 0.85


def test_share_interval_without_clusters_is_wilsons() -> None:
    """With no more error than independent samples have it is Wilson's interval of all of them."""
    assert share_interval(0.05, 100, 0.0, MANY) == pytest.approx(wilson(5, 100), rel=1e-9)
    independent = sqrt(0.05 * 0.95 / 100)
    assert share_interval(0.05, 100, independent, MANY) == pytest.approx(wilson(5, 100), rel=1e-9)
    assert share_interval(0.05, 100, independent / 2, MANY) == pytest.approx(
        wilson(5, 100), rel=1e-9
    )


@pytest.mark.parametrize("effect", [1.5, 4.0, 20.0])
def test_share_interval_matches_statsmodels_wilson_of_the_effective_size(effect: float) -> None:
    """With a design effect of k it is statsmodels' Wilson interval of n / k samples."""
    error = sqrt(effect * 0.08 * 0.92 / 400)
    expected = proportion_confint(0.08 * 400 / effect, 400 / effect, alpha=0.1, method="wilson")
    found = share_interval(0.08, 400, error, MANY, level=0.9)
    assert found == pytest.approx(expected, rel=1e-7)  # t is nearly the normal
    assert found != pytest.approx(tuple(wilson(32, 400, level=0.9)), rel=1e-2)


@pytest.mark.parametrize("freedom", [2, 9, 40])
def test_share_interval_of_few_clusters_is_wilsons_at_students_quantile(freedom: int) -> None:
    """It is statsmodels' Wilson at the level whose normal quantile is t's of the clusters."""
    alpha = 2 * stats.norm.sf(stats.t.ppf(0.975, freedom))
    effective = 0.08 * 0.92 / 0.02**2
    expected = proportion_confint(0.08 * effective, effective, alpha=alpha, method="wilson")
    found = share_interval(0.08, 400, 0.02, freedom)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != pytest.approx(tuple(share_interval(0.08, 400, 0.02, MANY)), rel=1e-2)


def test_share_interval_stays_in_its_range() -> None:
    """At no or all samples, or with a huge error, the interval stays in 0..1 and is no point."""
    for share, error in ((0.0, 0.0), (1.0, 0.0), (0.02, 0.5), (0.98, 0.5)):
        low, high = share_interval(share, 50, error, 40)
        assert 0 <= low <= share <= high <= 1
        assert low < high


def test_share_interval_of_no_samples_is_nan() -> None:
    """No samples or no share: no interval."""
    assert share_interval(nan, 0, nan, 5) == UNDEFINED
    assert share_interval(0.5, 0, 0.1, 5) == UNDEFINED
    assert share_interval(nan, 10, 0.1, 5) == UNDEFINED


def test_share_interval_without_an_error_is_nan() -> None:
    """An unknown error, as of a single cluster, gives no interval, not that of n independent."""
    assert share_interval(0.1, 100, nan, 5) == UNDEFINED


def test_share_interval_widens_with_fewer_clusters() -> None:
    """The same error from five clusters bounds less than from fifty: t, not the normal."""
    few, many = (share_interval(0.1, 500, 0.02, freedom) for freedom in (4, 49))
    assert few.low < many.low < 0.1 < many.high < few.high
    assert share_interval(0.1, 500, 0.02, 0) == UNDEFINED


def test_mcnemar_is_rs() -> None:
    """161 patients, 16 lost and 6 won: R's contingencytables 3.0.0 on its data of Cavo et al. 2012.

    > McNemar_exact_cond_test_paired_2x2(cavo_2012)
    P = 0.052479
    """
    assert mcnemar(lost=16, won=6) == pytest.approx(0.052479, abs=5e-7)
    assert mcnemar(lost=16, won=5) != pytest.approx(0.052479, abs=5e-3)


def test_share_interval_with_clusters_covers(generator: torch.Generator) -> None:
    """Over 400 samples of 40 clusters of five alike answers it covers about 95 %.

    Control: Wilson's interval of the 200 samples covers far less.
    """
    trials, covered, naive = 400, 0, 0
    clusters = torch.arange(40).repeat_interleave(5)
    for _ in range(trials):
        own = torch.rand(200, generator=generator) < 0.15
        shared = (torch.rand(40, generator=generator) < 0.15)[clusters]
        copies = torch.rand(200, generator=generator) < 0.8
        flips = torch.where(copies, shared, own).double()
        low, high = share_interval(float(flips.mean()), 200, *standard_error(flips, clusters))
        covered += low <= 0.15 <= high
        low, high = wilson(int(flips.sum()), 200)
        naive += low <= 0.15 <= high
    assert 0.91 <= covered / trials <= 0.985
    assert naive / trials < 0.85


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels_own(seed: int) -> None:
    """In any order; nan stays nan and takes no part."""
    p_values = np.random.default_rng(seed).random(7) ** 3
    expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values.tolist()) == pytest.approx(list(expected))
    with_nan = holm([*p_values[:3].tolist(), nan, *p_values[3:].tolist()])
    assert isnan(with_nan.pop(3))
    assert with_nan == pytest.approx(list(expected))
    assert holm([]) == []


@pytest.mark.parametrize(("count", "n", "share"), [(30, 42, 0.816), (3, 12, 5 / 7), (0, 5, 0.5)])
def test_binomial_test_is_twice_scipys_smaller_tail(count: int, n: int, share: float) -> None:
    """At most 1; at another share it is another p."""
    law = stats.binom(n, share)
    expected = min(1, 2 * min(law.cdf(count), law.sf(count - 1)))
    assert binomial_test(count, n, share) == pytest.approx(expected, rel=1e-9)
    assert binomial_test(count, n, share / 2) != pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("n", "share"), [(0, 0.5), (5, 0.0), (5, 1.0), (5, nan)])
def test_binomial_test_of_nothing_left_to_chance_is_nan(n: int, share: float) -> None:
    """No trials, or an outcome that is sure."""
    assert isnan(binomial_test(0, n, share))
