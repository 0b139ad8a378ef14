"""The interval of a mean of distances: by hand, in its limits, and over draws of heavy tails."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isnan, log, nan, sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from lm_eval_flips.measures.distance_mean import distance_interval, one_more

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def test_both_ends_by_hand() -> None:
    """The low end is the delta method's of the logarithm, the high end square and add."""
    far = stats.t.ppf(0.975, 99)
    low, high = distance_interval(0.1, 0.02, 99, more=0.01)
    assert low == pytest.approx(exp(log(0.1) - far * 0.02 / 0.1), rel=1e-9)
    assert high == pytest.approx(0.1 + 0.01 + far * sqrt(0.02**2 + 0.01**2), rel=1e-9)
    plain = distance_interval(0.1, 0.02, 99)
    assert plain.high == pytest.approx(0.1 + far * 0.02, rel=1e-9)
    assert 0 < plain.low < 0.1
    ninety = distance_interval(0.1, 0.02, 99, more=0.01, level=0.9)
    assert low < ninety.low < ninety.high < high


def test_one_more_by_hand() -> None:
    """Eleven values 1, 2, 4, ..., 1024: each ten largest over the eleventh fall by mean log 5.5.

    Of a tail that is alike nothing more is expected than its like.
    """
    values = 2.0 ** torch.arange(11)
    fall = min(2.0, 5.5 * log(2))
    expected = (1024 * 9**fall - float(values.mean())) / 12
    assert one_more(values, samples=11) == pytest.approx(expected, rel=1e-9)
    assert one_more(torch.ones(50), samples=50) == pytest.approx(0.0, abs=1e-12)
    assert one_more(torch.zeros(50), samples=50) == 0.0
    # twice the samples under as many documents: half the effect on the mean
    assert one_more(2 * values, samples=22) == pytest.approx(
        (2048 * 9**fall - 2 * float(values.mean())) / 24, rel=1e-9
    )


def test_what_has_no_mean_has_no_interval() -> None:
    """An infinite mean, no error, no degrees of freedom; a mean of nothing but 0 stays 0."""
    for mean, error, freedom in ((inf, 0.1, 5), (nan, 0.1, 5), (0.1, nan, 5), (0.1, 0.1, 0)):
        assert all(map(isnan, distance_interval(mean, error, freedom)))
    assert distance_interval(0.0, 0.0, 9) == (0.0, 0.0)


def test_with_many_samples_it_is_students() -> None:
    """100,000 values of an exponential law: the two intervals differ by less than 2 % of a width."""
    values = torch.from_numpy(np.random.default_rng(1).exponential(size=100_000))
    mean, error = float(values.mean()), float(values.std()) / sqrt(len(values))
    found = distance_interval(mean, error, 99_999, more=one_more(values, samples=100_000))
    half = 1.96 * error
    assert found == pytest.approx((mean - half, mean + half), abs=0.05 * half)


def _lognormal(spread: float) -> tuple[Draw, float]:
    return lambda rng, size: rng.lognormal(0, spread, size), exp(spread**2 / 2)


@pytest.mark.simulation
@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("spread", [0.5, 1.0, 1.5, 1.9])
def test_it_covers_where_few_samples_rule_the_mean(spread: float, n: int) -> None:
    """Of 2,000 draws the truth lies above in at most 3.5 %, below in at most 4 %, each nominal 2.5.

    Control: above Student's upper end it lies in more than 10 %, of the heavier tails.
    """
    (draw, truth), rng = _lognormal(spread), np.random.default_rng(n)
    above = below = student = 0
    for _ in range(2000):
        values = torch.from_numpy(draw(rng, (1, n))[0])
        mean, error = float(values.mean()), float(values.std()) / sqrt(n)
        more = one_more(values, samples=n)
        low, high = distance_interval(mean, error, n - 1, more=more)
        above += truth > high
        below += truth < low
        student += truth > mean + stats.t.ppf(0.975, n - 1) * error
    assert above / 2000 <= 0.035
    assert below / 2000 <= 0.04
    if spread >= 1.5 and n <= 300:
        assert student / 2000 > 0.1
