"""Betting on the mean of a finite set: an oracle in plain Python, its error rates, a control."""

from __future__ import annotations

from fractions import Fraction
from math import sqrt

import pytest
import torch

from lm_eval_flips.measures.betting import BETS, Draws, bounds, least_draws, p_at_least, p_at_most

LEVEL = 0.025


def drawn(values: list[float], *, whole: int, low: float = 0.0, high: float = 1.0) -> Draws:
    """Draws of a set."""
    return Draws(values=torch.tensor(values, dtype=torch.float64), whole=whole, low=low, high=high)


def shuffled(ones: int, whole: int, generator: torch.Generator) -> torch.Tensor:
    """A set of ones and zeros in a random order."""
    numbers = torch.zeros(whole, dtype=torch.float64)
    numbers[:ones] = 1
    return numbers[torch.randperm(whole, generator=generator)]


def wealth(values: list[int], *, whole: int, mean: Fraction) -> Fraction:
    """The mean wealth of all bets after these draws, in fractions; the set is of 0 and 1."""
    total = Fraction(0)
    for share in BETS:
        bet, sum_ = Fraction(1), 0
        for i, value in enumerate(values):
            rest = (whole * mean - sum_) / (whole - i)
            bet *= 1 + Fraction(str(share)) * (rest - value) / (1 - rest)
            sum_ += value
        total += bet
    return total / len(BETS)


def test_wealth_by_fractions() -> None:
    """The p is the reciprocal of the largest wealth so far."""
    values = [0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    mean = Fraction(3, 10)
    wealths = [wealth(values[: i + 1], whole=40, mean=mean) for i in range(len(values))]
    expected = [min(1.0, float(1 / max(wealths[: i + 1]))) for i in range(len(values))]
    found = p_at_least(drawn([float(v) for v in values], whole=40), float(mean))
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_bet_on_a_true_mean_is_fair() -> None:
    """Over all orders of a set the wealth is 1 on average, as Ville's inequality needs."""
    from itertools import permutations

    numbers = [1, 0, 0, 1, 0]
    orders = list(permutations(numbers))
    for drawn_ in (1, 2, 3):
        total = sum(
            (wealth(list(o[:drawn_]), whole=5, mean=Fraction(2, 5)) for o in orders), Fraction(0)
        )
        assert total / len(orders) == 1


def test_mirrored() -> None:
    """At most is at least of the numbers with their sign turned, on any range."""
    values = [0.5, -1.0, 0.25, 0.0, 1.0]
    ours = p_at_most(drawn(values, whole=9, low=-1.0), 0.1)
    theirs = p_at_least(drawn([(1 - v) / 2 for v in values], whole=9), (1 - 0.1) / 2)
    assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-9)


@pytest.mark.parametrize("ones", [0, 3, 10, 20])
def test_all_drawn_is_all_known(ones: int) -> None:
    """Of the whole set the interval is the mean, and every other mean is refuted."""
    values = shuffled(ones, 20, torch.Generator().manual_seed(ones))
    draws = Draws(values=values, whole=20, low=0.0, high=1.0)
    assert bounds(draws) == pytest.approx((ones / 20, ones / 20), abs=1e-6)
    assert float(p_at_least(draws, ones / 20)[-1]) > LEVEL
    assert float(p_at_most(draws, ones / 20)[-1]) > LEVEL
    assert float(p_at_least(draws, ones / 20 + 0.01)[-1]) == 0
    assert float(p_at_most(draws, ones / 20 - 0.01)[-1]) == 0


def test_nothing_drawn() -> None:
    """The interval is the whole range."""
    assert bounds(drawn([], whole=5, low=-1.0, high=2.0)) == (-1, 2)
    assert len(p_at_least(drawn([], whole=5), 0.3)) == 0


@pytest.mark.parametrize(
    ("values", "whole", "match"),
    [
        ([0.0, 1.0], 1, "2 draws of a set of 1"),
        ([0.0, 1.5], 9, "above 1"),
        ([-0.5], 9, "below 0"),
        ([float("nan")], 9, "is none"),
    ],
)
def test_refused(values: list[float], whole: int, match: str) -> None:
    """What is no draw of such a set."""
    with pytest.raises(ValueError, match=match):
        drawn(values, whole=whole)


def test_least_draws() -> None:
    """The first draw at which nothing but zeros shows it; never where the mean is 0."""
    best = Draws(values=torch.zeros(500), whole=500, low=0.0, high=1.0)
    least = least_draws(best, most=0.1, p=LEVEL)
    assert p_at_least(best, 0.1)[least - 1] <= LEVEL < p_at_least(best, 0.1)[least - 2]
    assert least_draws(best, most=0.0, p=LEVEL) == 500


@pytest.mark.simulation
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_an_interval_of_every_look_holds_the_mean(share: float) -> None:
    """In 95 % of all orders at the least, at every look at once; one without betting does not."""
    generator, whole, orders = torch.Generator().manual_seed(1), 600, 300
    ones = round(share * whole)
    missed = naive = 0
    for _ in range(orders):
        values = shuffled(ones, whole, generator)
        draws = Draws(values=values, whole=whole, low=0.0, high=1.0)
        mean = ones / whole
        missed += bool((p_at_least(draws, mean) <= LEVEL).any())
        missed += bool((p_at_most(draws, mean) <= LEVEL).any())
        naive += _wald_misses(values, mean)
    assert missed / orders < 0.05 + 2.5 * sqrt(0.05 * 0.95 / orders)
    assert naive / orders > 0.15  # control


def _wald_misses(values: torch.Tensor, mean: float) -> bool:
    """Whether any look of 20 to all, by a normal interval, misses the mean."""
    n = torch.arange(1, len(values) + 1)
    seen = values.cumsum(0) / n
    half = 1.96 * (seen * (1 - seen) / n * (1 - n / len(values))).sqrt()
    return bool(((seen - mean).abs() > half)[20:-1].any())


@pytest.mark.simulation
def test_it_is_decided_early() -> None:
    """Power: of 2,961 questions with 2.5 % flips, a limit of 10 % is kept after about a hundred."""
    generator, after = torch.Generator().manual_seed(2), []
    for _ in range(60):
        draws = Draws(values=shuffled(74, 2961, generator), whole=2961, low=0.0, high=1.0)
        shown = p_at_least(draws, 0.1) <= LEVEL
        assert bool(shown.any())
        after.append(int(shown.double().argmax()) + 1)
    assert sorted(after)[30] <= 150
