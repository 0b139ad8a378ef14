"""The change that is found: power against scipy's own test over whole enumerations."""

from __future__ import annotations

from math import isnan, nan, sqrt

import numpy as np
import pytest
from scipy import stats

from lm_eval_flips.measures.detectable import mcnemar_detectable, mcnemar_power, t_detectable


def _power(lost: float, won: float, n: int) -> float:
    """Every table's chance, by scipy, of those that its binomial test calls different."""
    total = 0.0
    law = stats.multinomial(n, [lost, won, 1 - lost - won])
    for a in range(n + 1):
        for b in range(n - a + 1):
            chance = law.pmf([a, b, n - a - b])
            if a + b and chance > 1e-9 and stats.binomtest(a, a + b).pvalue < 0.05:
                total += chance
    return total


@pytest.mark.parametrize(("lost", "won", "n"), [(0.1, 0.04, 40), (0.2, 0.0, 30), (0.3, 0.3, 25)])
def test_power_is_that_of_the_printed_test(lost: float, won: float, n: int) -> None:
    """The share of all outcomes, by their chance, that exact McNemar calls different."""
    expected = _power(lost, won, n)
    assert mcnemar_power(lost=lost, won=won, n=n) == pytest.approx(expected, abs=1e-6)
    assert mcnemar_power(lost=lost, won=won, n=n + 3) != pytest.approx(expected, rel=1e-3)


def test_no_flip_in_a_hundred_could_hide_a_loss_of_eight_answers() -> None:
    """Not of 3.9, which the exact test finds in a fifth of all cases only."""
    found = mcnemar_detectable(flips=0.0, n=100)
    assert 0.075 < found < 0.09
    assert mcnemar_power(lost=0.039, won=0.0, n=100) < 0.21
    assert mcnemar_power(lost=found, won=0.0, n=100) == pytest.approx(0.8, abs=1e-3)


def test_many_samples_detect_what_the_normal_law_says() -> None:
    """10 % flips of 20,000 samples: (1.96 + 0.84) sqrt(flips / n), to two hundredths."""
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * sqrt(0.1 / 20_000)
    assert mcnemar_detectable(flips=0.1, n=20_000) == pytest.approx(expected, rel=0.02)
    more = mcnemar_detectable(flips=0.1, n=20_000, power=0.9)
    assert more > 1.1 * expected


def test_five_samples_find_nothing() -> None:
    """Five lost of five are p = 0.06: no change is found; nor is one without samples."""
    assert isnan(mcnemar_detectable(flips=0.0, n=5))
    assert isnan(mcnemar_detectable(flips=0.0, n=0))
    assert mcnemar_power(lost=0.0, won=0.0, n=100) == 0.0


def test_what_a_t_test_finds_is_scipys_noncentral_t() -> None:
    """Its power at the change, by scipy's noncentral t, is what was asked for, nearly."""
    found = t_detectable(0.01, 20)
    edge = stats.t.ppf(0.975, 20)
    power = stats.nct.sf(edge, 20, found / 0.01)
    assert power == pytest.approx(0.8, abs=0.02)
    assert isnan(t_detectable(nan, 5))
    assert isnan(t_detectable(0.0, 5))
    assert np.isfinite(found)
