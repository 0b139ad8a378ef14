"""MOVER's interval against its published formula, whole enumerations and the limits of no change."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from lm_eval_flips.measures.paired_difference import mover, mover_interval

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)


def _published(lost: int, won: int, n: int, level: float) -> tuple[float, float]:
    """Zou and Donner, equations 4 and 5, with statsmodels' Wilson limits.

    The correlation is the multinomial's, from its covariance -pq/n.
    """
    q, p = lost / n, won / n
    l1, u1 = proportion_confint(won, n, alpha=1 - level, method="wilson")
    l2, u2 = proportion_confint(lost, n, alpha=1 - level, method="wilson")
    r = -sqrt(p * q / ((1 - p) * (1 - q)))
    low = p - q - sqrt((p - l1) ** 2 + (u2 - q) ** 2 - 2 * r * (p - l1) * (u2 - q))
    high = p - q + sqrt((u1 - p) ** 2 + (q - l2) ** 2 - 2 * r * (u1 - p) * (q - l2))
    return low, high


@pytest.mark.parametrize("level", [0.9, 0.95])
@pytest.mark.parametrize(
    ("lost", "won", "n"), [(6, 2, 100), (0, 0, 20), (3, 0, 90), (0, 4, 500), (31, 24, 1000)]
)
def test_mover_is_the_published_formula(lost: int, won: int, n: int, level: float) -> None:
    """Wilson's limits of both shares, square and add, with the multinomial's correlation."""
    found = mover(lost=lost, won=won, n=n, level=level)
    assert found == pytest.approx(_published(lost, won, n, level), rel=1e-7)
    other = mover(lost=lost + 1, won=won, n=n, level=level)
    assert other != pytest.approx(_published(lost, won, n, level), rel=1e-3)


def test_swapping_negates_it_and_it_holds_the_change() -> None:
    """For every table of up to 25 samples it holds (won - lost) / n, lies in -1..1, and mirrors."""
    for n in range(1, 26):
        for lost in range(n + 1):
            for won in range(n - lost + 1):
                low, high = mover(lost=lost, won=won, n=n)
                assert -1 <= low <= (won - lost) / n <= high <= 1
                back = mover(lost=won, won=lost, n=n)
                assert back == pytest.approx((-high, -low), rel=1e-9, abs=1e-12)


def test_one_direction_alone_is_wilsons_limit() -> None:
    """With losses only the low end is Wilson's upper limit of the losses, as for any share."""
    low, _ = mover(lost=4, won=0, n=500)
    assert low == pytest.approx(-proportion_confint(4, 500, method="wilson")[1], rel=1e-6)


def test_clusters_enter_by_what_their_samples_are_worth() -> None:
    """Errors three times as large as independent samples': as a ninth of the samples.

    At the quantile of Student's t, for nine degrees of freedom.
    """
    n, lost, won = 900, 0.08, 0.03
    independent = [sqrt(p * (1 - p) / n) for p in (lost, won)]
    difference = sqrt((lost + won - (lost - won) ** 2) / n)
    found = mover_interval(
        lost=lost,
        won=won,
        n=n,
        errors=(3 * independent[0], 3 * independent[1], 3 * difference),
        freedom=9,
    )
    level = 2 * stats.norm.cdf(stats.t.ppf(0.975, 9)) - 1
    assert found == pytest.approx(_published(8, 3, 100, level), rel=1e-6)


def test_what_moved_alike_in_every_cluster_is_worth_the_clusters() -> None:
    """No error is no certainty: the interval is that of so many clusters, nothing moved."""
    found = mover_interval(lost=0.0, won=0.0, n=40, errors=(0.0, 0.0, 0.0), freedom=10**9)
    edge = proportion_confint(0, 40, method="wilson")[1]
    assert found == pytest.approx((-edge, edge), rel=1e-6)


def test_nothing_measured_has_no_interval() -> None:
    """No samples, no error or no degrees of freedom: nan."""
    assert mover(lost=0, won=0, n=0) == UNDEFINED
    for errors, freedom in (((nan, 0.1, 0.1), 5), ((0.1, 0.1, 0.1), 0)):
        found = mover_interval(lost=0.1, won=0.1, n=9, errors=errors, freedom=freedom)
        assert found == UNDEFINED


@pytest.mark.parametrize("n", [200, 500, 2000])
@pytest.mark.parametrize("lost", [0.01, 0.02])
def test_few_losses_at_the_margin_pass_no_more_often_than_they_may(lost: float, n: int) -> None:
    """All changes are losses, exactly at the margin: all outcomes, weighted by their chance.

    The 90 % interval lies within the margin in at most 5 % (and a point for what is discrete), the
    95 % one in at most 2.5 %. Control: Wald's passes up to a fifth.
    """
    counts = np.arange(n + 1)
    chance = stats.binom.pmf(counts, n, lost)
    likely = counts[chance > 1e-9]
    for level, most in ((0.9, 0.06), (0.95, 0.035)):
        passes = [mover(lost=int(k), won=0, n=n, level=level).low > -lost for k in likely]
        assert chance[likely][np.array(passes)].sum() <= most
    share = likely / n
    wald = share + 1.6449 * np.sqrt(share * (1 - share) / n) < lost
    if n * lost <= 5:
        assert chance[likely][wald].sum() > 0.06


def test_of_many_samples_it_is_scipys_paired_one() -> None:
    """Of a million samples it equals the interval of scipy's t test of the changes."""
    changes = np.repeat([-1.0, 1.0, 0.0], [30_000, 20_000, 950_000])
    ends = stats.ttest_1samp(changes, 0).confidence_interval(0.95)
    found = mover(lost=30_000, won=20_000, n=1_000_000)
    assert found == pytest.approx((ends.low, ends.high), rel=1e-4)


def test_it_narrows_with_samples_and_widens_with_the_level() -> None:
    """A hundred times the same table: a tenth of the width; no flip at all is no certainty."""
    few, many = (mover(lost=9 * k, won=2 * k, n=60 * k) for k in (1, 100))
    assert (many.high - many.low) * 10 == pytest.approx(few.high - few.low, rel=0.15)
    wide = mover(lost=9, won=2, n=60, level=0.99)
    assert wide.low < few.low < few.high < wide.high
    widths = [high - low for low, high in (mover(lost=0, won=0, n=n) for n in (1, 10, 100, 1000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] > 0


@pytest.mark.parametrize("n", [200, 500])
@pytest.mark.parametrize(("lost", "won"), [(0.02, 0.01), (0.06, 0.05), (0.03, 0.0)])
def test_it_covers_in_independent_samples(n: int, lost: float, won: float) -> None:
    """Over all outcomes by their chance: 95 to 99 % hold the truth, from rare flips to many."""
    chance = covered = 0.0
    for k in range(n):
        of_wins = float(stats.binom.pmf(k, n, won))
        if of_wins < 1e-6:
            continue
        losses = np.arange(n - k + 1)
        of_losses = stats.binom.pmf(losses, n - k, lost / (1 - won))
        for count, of_both in zip(losses.tolist(), of_wins * of_losses, strict=True):
            if of_both > 1e-7:
                low, high = mover(lost=count, won=k, n=n)
                covered += of_both * (low <= won - lost <= high)
                chance += of_both
    assert chance > 0.999
    assert 0.945 < covered / chance < 0.99
