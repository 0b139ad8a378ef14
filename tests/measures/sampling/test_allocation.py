"""Neyman's allocation against every other one, and plain sampling's size against its own variance."""

from __future__ import annotations

from itertools import product
from math import ceil, isnan, nan, sqrt

import numpy as np
import pytest
import torch
from scipy import stats

from lm_eval_flips.measures.sampling.allocation import least, neyman, plain_samples


def _variance(sizes: list[int], spreads: list[float], drawn: tuple[int, ...]) -> float:
    """Variance of the total, by the textbook; spreads have divisor N - 1."""
    return sum(
        size**2 * spread**2 * (1 / n - 1 / size)
        for size, spread, n in zip(sizes, spreads, drawn, strict=True)
    )


@pytest.mark.parametrize("seed", range(5))
def test_no_other_allocation_knows_the_mean_better(seed: int) -> None:
    """Every way to share 14 draws among three small strata, two of each at least, is tried."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(3, 12, 3).tolist()
    spreads = generator.uniform(0.05, 0.5, 3).tolist()
    n = min(14, sum(sizes))
    found = neyman(sizes=torch.tensor(sizes), spreads=torch.tensor(spreads), n=n).tolist()
    every = [drawn for drawn in product(*(range(2, size + 1) for size in sizes)) if sum(drawn) == n]
    best = min(_variance(sizes, spreads, drawn) for drawn in every)
    assert sum(found) == n
    assert _variance(sizes, spreads, tuple(found)) == pytest.approx(best, rel=1e-6)


def test_the_search_can_tell_a_worse_allocation() -> None:
    """Control for the test above: an even allocation is worse where spreads are not."""
    sizes, spreads = [10, 10], [0.5, 0.1]
    best = neyman(sizes=torch.tensor(sizes), spreads=torch.tensor(spreads), n=10).tolist()
    assert _variance(sizes, spreads, (5, 5)) > 1.1 * _variance(sizes, spreads, tuple(best))


def test_draws_go_with_size_times_spread() -> None:
    """Large strata, far from their ends: Cochran's formula 5.26, to the next whole number."""
    sizes, spreads = torch.tensor([5000, 3000, 2000]), torch.tensor([0.1, 0.3, 0.45])
    share = sizes * spreads / float((sizes * spreads).sum())
    found = neyman(sizes=sizes, spreads=spreads, n=700)
    assert (found - 700 * share).abs().max() < 1


def test_every_stratum_is_drawn_and_none_beyond_its_size() -> None:
    """Even one that is expected not to vary at all; one of a single document is drawn whole."""
    found = neyman(
        sizes=torch.tensor([50, 1, 3]), spreads=torch.tensor([0.0, 0.5, 0.5]), n=8
    ).tolist()
    assert found == [4, 1, 3]
    assert least(torch.tensor([50, 1, 3])).tolist() == [2, 1, 2]
    everything = neyman(sizes=torch.tensor([5, 2]), spreads=torch.tensor([0.1, 0.2]), n=7)
    assert everything.tolist() == [5, 2]


@pytest.mark.parametrize("n", [3, 8])
def test_draws_that_do_not_fit_are_refused(n: int) -> None:
    """Fewer than two a stratum, or more than all documents."""
    with pytest.raises(ValueError, match=f"{n} draws do not fit 2 strata of 7 documents"):
        neyman(sizes=torch.tensor([5, 2]), spreads=torch.tensor([0.1, 0.2]), n=n)


def test_plain_samples_have_just_that_half_width() -> None:
    """Cochran 2.17: with the size it gives the interval is as narrow, with one sample less not."""
    variance, documents, asked = 0.05 * 0.95, 3000, 0.01
    z = stats.norm.ppf(0.975)

    def half_width(n: float) -> float:
        return float(z * sqrt(variance / n * (1 - n / documents)))

    n = plain_samples(variance=variance, half_width=asked, documents=documents)
    assert half_width(n) <= asked < half_width(n - 1)
    unlimited = plain_samples(variance=variance, half_width=asked, documents=10**9)
    assert unlimited == pytest.approx(ceil(variance * (z / asked) ** 2), abs=1)


def test_no_width_takes_all_and_no_variance_is_undefined() -> None:
    """Only all documents show a mean without error; values that do not vary need no sample."""
    assert plain_samples(variance=0.1, half_width=0.0, documents=70) == 70
    assert isnan(plain_samples(variance=0.0, half_width=0.1, documents=70))
    assert isnan(plain_samples(variance=0.1, half_width=nan, documents=70))
