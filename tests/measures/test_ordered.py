"""Order statistics: numpy's quantiles, scipy's intervals of them, and what is nan or infinite."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from lm_eval_flips.measures.ordered import Ordered, quantile_interval

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)


def test_quantiles_are_numpys(device: str, generator: torch.Generator) -> None:
    """Several at once, of unsorted values; those of others are others."""
    values = torch.randn(101, generator=generator, dtype=torch.float64)
    shares = [0.0, 0.013, 0.5, 0.99, 1.0]
    found = Ordered(values.to(device)).quantiles(shares)
    assert found == pytest.approx(np.quantile(values.numpy(), shares).tolist(), rel=1e-12)
    assert Ordered(values[1:].to(device)).quantiles(shares) != found


def test_nan_is_the_largest_of_all(device: str) -> None:
    """As numpy and torch sort it; the other quantiles stay what they are."""
    values = torch.tensor([2.0, nan, 1.0], device=device)
    assert isnan(Ordered(values).largest)
    assert Ordered(values).quantiles([0.0, 0.5]) == [1.0, 2.0]


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_quantile_interval_matches_order_statistics(
    device: str, generator: torch.Generator, share: float, level: float
) -> None:
    """The ends are the innermost order statistics that leave at most half the error outside."""
    n = 200
    values = torch.randn(n, generator=generator, dtype=torch.float64)
    tail = (1 - level) / 2
    below = stats.binom.cdf(np.arange(-1, n), n, share)  # below[r] = P(fewer than r of n below)
    lowest = max(r for r in range(1, n + 1) if below[r] <= tail)
    highest = min(r for r in range(1, n + 1) if 1 - below[r] <= tail)
    ordered = values.sort().values
    found = quantile_interval(values.to(device), share, level=level)
    assert found == (float(ordered[lowest - 1]), float(ordered[highest - 1]))
    assert found.low < np.quantile(values.numpy(), share) < found.high


def test_quantile_interval_covers_exactly_enough() -> None:
    """By enumeration the median interval of 100 samples covers between 95 and 97 %."""
    low, high = quantile_interval(torch.arange(1.0, 101.0), 0.5)
    covered = stats.binom.cdf(high - 1, 100, 0.5) - stats.binom.cdf(low - 1, 100, 0.5)
    assert 0.95 <= covered <= 0.97


def test_quantile_interval_is_scipys(generator: torch.Generator) -> None:
    """The interval equals scipy's quantile_test, and one level does not equal another."""
    values = torch.randn(700, generator=generator)
    for share in (0.5, 0.99):
        ci: Any = stats.quantile_test(values.numpy(), p=share).confidence_interval(0.95)
        assert quantile_interval(values, share) == (ci.low, ci.high)
        assert quantile_interval(values, share, level=0.8) != (ci.low, ci.high)


def test_quantile_interval_of_p99_of_50_samples_is_open(device: str) -> None:
    """Fifty samples bound their 99th percentile from below only: the high end is nan."""
    found = quantile_interval(torch.arange(50.0, device=device), 0.99)
    # P(X_(47) > q99) = P(fewer than 47 of 50 below) = 0.0016; for the 48th 0.0138, the 49th 0.089
    assert found.low == 47.0
    assert isnan(found.high)


def test_quantile_interval_of_no_samples_is_nan(device: str) -> None:
    """No samples bound no quantile."""
    for share in (0.5, 0.99):
        assert quantile_interval(torch.zeros(0, device=device), share) == UNDEFINED


def test_quantile_interval_of_one_sample_leaves_the_median_open(device: str) -> None:
    """One sample bounds no median; as it exceeds p99 by a chance of 1 % only, it is its low end."""
    one = torch.ones(1, device=device)
    assert quantile_interval(one, 0.5) == UNDEFINED
    low, high = quantile_interval(one, 0.99)
    assert low == 1.0
    assert isnan(high)


def test_quantile_interval_can_be_infinite(device: str) -> None:
    """Where most values are infinite so are the ends."""
    values = torch.full((30,), inf, device=device)
    values[:3] = 1.0
    assert quantile_interval(values, 0.5) == (inf, inf)


def test_quantile_interval_of_equal_values_is_that_value(device: str) -> None:
    """Ties are no trouble: all values equal give that value at both ends."""
    assert quantile_interval(torch.zeros(40, device=device), 0.5) == (0.0, 0.0)
