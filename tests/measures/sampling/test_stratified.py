"""Stratified means and intervals: textbook sums, every possible sample, whole draws, simulation."""

from __future__ import annotations

from itertools import combinations, product
from math import nan, sqrt

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.proportion import proportion_confint
from torch import Tensor

from lm_eval_flips.measures.sampling.design import Design
from lm_eval_flips.measures.sampling.stratified import (
    share_interval,
    standard_error,
    stratified_difference_interval,
    stratified_interval,
    stratified_share_interval,
)
from lm_eval_flips.measures.significance import Interval

Floats = NDArray[np.float64]


def design(sizes: list[int], drawn: list[int], device: str = "cpu") -> Design:
    """Strata of these sizes, of which so many were drawn, in order."""
    stratum = torch.repeat_interleave(torch.arange(len(drawn)), torch.tensor(drawn))
    return Design(
        sizes=torch.tensor(sizes, device=device),
        drawn=torch.tensor(drawn, device=device),
        stratum=stratum.to(device),
    )


def sample(
    populations: list[Floats], drawn: list[int], generator: np.random.Generator
) -> tuple[Tensor, Design]:
    """Draw so many of each stratum at random."""
    values = [
        generator.choice(own, n, replace=False) for own, n in zip(populations, drawn, strict=True)
    ]
    return torch.from_numpy(np.concatenate(values)), design(list(map(len, populations)), drawn)


@pytest.fixture
def values(generator: torch.Generator) -> Tensor:
    """Ten values, of strata of 4, 3, 2 and 1 draws."""
    return torch.randn(10, generator=generator, dtype=torch.float64)


DRAWN = design([40, 3, 20, 1], [4, 3, 2, 1])


def test_the_mean_is_weighted_by_hand(values: Tensor) -> None:
    """Each stratum's mean by its share of 64 documents; and each sample by what it stands for."""
    v = values.numpy()
    by_hand = (40 * v[:4].mean() + 3 * v[4:7].mean() + 20 * v[7:9].mean() + v[9]) / 64
    assert DRAWN.mean(values) == pytest.approx(by_hand)
    weights = [10] * 4 + [1] * 3 + [10] * 2 + [1]
    assert DRAWN.weights.tolist() == weights
    assert DRAWN.mean(values) == pytest.approx(np.average(v, weights=weights))


def test_every_device_gives_the_same(values: Tensor, device: str) -> None:
    """Tensors of another device."""
    there = design([40, 3, 20, 1], [4, 3, 2, 1], device)
    own = values.to(device)
    assert there.mean(own) == pytest.approx(DRAWN.mean(values))
    assert stratified_interval(own, there) == pytest.approx(stratified_interval(values, DRAWN))
    expected = torch.tensor([0.4, 0.2, 0.1, 0.1], device=device)
    found = stratified_share_interval(own > 0, there, expected=expected)
    here = stratified_share_interval(values > 0, DRAWN, expected=expected.cpu())
    assert found == pytest.approx(here)


def test_the_error_is_the_textbooks(values: Tensor) -> None:
    """Cochran 5.3 and 5.16 with numpy, where no variance is mixed in; whole strata add none."""
    v = values.numpy()
    parts, freedoms = [], []
    for size, own in ((40, v[:4]), (3, v[4:7]), (20, v[7:9])):
        n = len(own)
        parts.append((size / 64) ** 2 * (1 - n / size) * own.var(ddof=1) / n)
        freedoms.append(n - 1)
    error, freedom = standard_error(values, DRAWN, strength=0.0)
    assert parts[1] == 0
    assert error == pytest.approx(sqrt(sum(parts)))
    satterthwaite = sum(parts) ** 2 / sum(
        part**2 / f for part, f in zip(parts, freedoms, strict=True)
    )
    assert freedom == int(satterthwaite)


def test_one_stratum_of_few_is_the_plain_interval(values: Tensor) -> None:
    """Ten of a million documents: the mean and scipy's t interval."""
    plain = design([10**6], [10])
    error = stats.sem(values.numpy())
    expected = stats.t(9, values.mean(), error).interval(0.95)
    assert plain.mean(values) == pytest.approx(float(values.mean()))
    assert stratified_interval(values, plain) == pytest.approx(expected, rel=1e-4)


def test_the_mean_and_its_variance_are_unbiased_over_every_sample() -> None:
    """All samples of two and three from strata of five and six: their averages are the truth."""
    generator = np.random.default_rng(0)
    populations = [generator.normal(size=5), 3 + generator.normal(size=6)]
    drawn = design([5, 6], [2, 3])
    means, variances = [], []
    for chosen in product(combinations(populations[0], 2), combinations(populations[1], 3)):
        own = torch.tensor([*chosen[0], *chosen[1]])
        means.append(drawn.mean(own))
        variances.append(standard_error(own, drawn, strength=0.0)[0] ** 2)
    assert np.mean(means) == pytest.approx(np.concatenate(populations).mean())
    assert np.mean(variances) == pytest.approx(np.var(means))


def test_the_plain_mean_of_such_samples_is_biased() -> None:
    """Control for the test above: without weights the average is another."""
    generator = np.random.default_rng(0)
    populations = [generator.normal(size=5), 3 + generator.normal(size=6)]
    means = [
        np.mean([*first, *second])
        for first, second in product(
            combinations(populations[0], 2), combinations(populations[1], 3)
        )
    ]
    assert abs(np.mean(means) - np.concatenate(populations).mean()) > 0.1


def test_a_whole_draw_is_the_truth_without_error(values: Tensor) -> None:
    """All documents drawn: the plain mean, and intervals of no width."""
    whole = design([4, 6], [4, 6])
    changed, expected = values > 0, torch.tensor([0.3, 0.1])
    mean, share = float(values.mean()), float(changed.double().mean())
    assert whole.mean(values) == pytest.approx(mean)
    assert standard_error(values, whole)[0] == 0
    assert stratified_interval(values, whole) == pytest.approx((mean, mean))
    found = stratified_share_interval(changed, whole, expected=expected)
    assert found == pytest.approx((share, share))
    lost = ~changed & (values < -0.5)
    difference = share - float(lost.double().mean())
    found = stratified_difference_interval(
        lost, changed, whole, expected_lost=expected, expected_won=expected
    )
    assert found == pytest.approx((difference, difference))


def test_spread_is_the_variance_of_all_documents(values: Tensor) -> None:
    """Of a whole draw numpy's; over every sample of two and three its average is the truth."""
    whole = design([4, 6], [4, 6])
    assert whole.spread(values) == pytest.approx(values.numpy().var(ddof=1))
    first, second = values[:5].tolist(), [3 + value for value in values[5:].tolist()]
    drawn = design([5, 5], [2, 3])
    found = [
        drawn.spread(torch.tensor([*one, *other], dtype=torch.float64))
        for one, other in product(combinations(first, 2), combinations(second, 3))
    ]
    assert np.mean(found) == pytest.approx(np.var([*first, *second], ddof=1))


@pytest.mark.parametrize(("count", "n"), [(0, 40), (3, 40), (20, 40), (40, 40)])
def test_the_share_of_one_stratum_is_wilsons(count: int, n: int) -> None:
    """Of a billion documents, with statsmodels, whatever the rate is thought to be."""
    expected = proportion_confint(count, n, method="wilson")
    for rate in (0.02, 0.3):
        found = share_interval(
            count / n,
            sizes=torch.tensor([10**9]),
            drawn=torch.tensor([n]),
            rates=torch.tensor([rate], dtype=torch.float64),
        )
        assert found == pytest.approx(expected, abs=1e-6)


def test_the_ends_of_a_share_lie_z_errors_away() -> None:
    """At each end the strata's odds are multiplied alike, and the share is 1.96 errors away."""
    sizes, drawn = torch.tensor([300, 500, 10]), torch.tensor([30, 20, 10])
    rates = torch.tensor([0.3, 0.02, 0.5], dtype=torch.float64)
    low, high = share_interval(0.13, sizes=sizes, drawn=drawn, rates=rates)
    for end in (low, high):
        grid = np.linspace(-6, 6, 200_001)
        odds = rates[:2, None].numpy() / (1 - rates[:2, None].numpy()) * np.exp(grid)
        moved = odds / (1 + odds)
        share = (300 * moved[0] + 500 * moved[1] + 5) / 810
        size, n = sizes[:2, None].numpy(), drawn[:2, None].numpy()
        parts = (size / 810) ** 2 * (1 - n / size) / n * size / (size - 1) * moved * (1 - moved)
        place = np.abs(share - end).argmin()
        z = abs(share[place] - 0.13) / np.sqrt(parts.sum(0)[place])
        assert z == pytest.approx(1.96, abs=2e-3)


def test_no_change_seen_leaves_a_width() -> None:
    """Nothing among 20 draws of 1,000: the interval begins at 0 and does not end there."""
    drawn = design([400, 600], [10, 10])
    expected = torch.tensor([0.3, 0.01])
    none = torch.zeros(20).bool()
    low, high = stratified_share_interval(none, drawn, expected=expected)
    assert low == 0
    assert 0.01 < high < 0.3
    change = stratified_difference_interval(
        none, none, drawn, expected_lost=expected, expected_won=expected
    )
    assert change.low < 0 < change.high
    assert change.high == pytest.approx(-change.low)


def test_swapping_losses_and_gains_turns_the_interval_round(values: Tensor) -> None:
    """An identity."""
    lost, won = values < -0.8, values > 0.5
    ours, theirs = torch.tensor([0.3, 0.2, 0.1, 0.1]), torch.tensor([0.1, 0.2, 0.2, 0.3])
    first = stratified_difference_interval(
        lost, won, DRAWN, expected_lost=ours, expected_won=theirs, level=0.9
    )
    second = stratified_difference_interval(
        won, lost, DRAWN, expected_lost=theirs, expected_won=ours, level=0.9
    )
    assert first == pytest.approx((-second.high, -second.low))


def test_distances_have_an_interval_that_keeps_above_zero(values: Tensor) -> None:
    """As far from the mean in ratio on both sides; the upper end is that of the plain one or more."""
    kl = values.exp()
    mean = DRAWN.mean(kl)
    low, high = stratified_interval(kl, DRAWN, positive=True)
    assert 0 < low < mean < high
    assert mean / low == pytest.approx(high / mean)
    assert high > stratified_interval(kl, DRAWN).high
    nothing = torch.zeros(10)
    assert stratified_interval(nothing, DRAWN, positive=True) == (0, 0)


def test_no_strata_have_no_interval() -> None:
    """Undefined, not 0."""
    empty = torch.zeros(0)
    found = share_interval(nan, sizes=empty.long(), drawn=empty.long(), rates=empty)
    assert found == pytest.approx((nan, nan), nan_ok=True)


# A world of 3,000 documents: rates fall over strata as changes do, some far from what is expected.
SIZES = [60, 100, 140, 300, 600, 800, 1000]
RATES = [0.45, 0.3, 0.2, 0.08, 0.02, 0.004, 0.0]
DRAWS = [40, 40, 40, 40, 40, 30, 30]
THOUGHT = torch.tensor([0.5, 0.25, 0.12, 0.06, 0.03, 0.01, 0.005])


def _coverage(rates: list[float], draws: int, seed: int = 0) -> dict[str, float]:
    """How often each interval holds the truth of a finite world, and that of ignoring weights."""
    generator = np.random.default_rng(seed)
    changed = [
        np.arange(size) < round(rate * size) for size, rate in zip(SIZES, rates, strict=True)
    ]
    lost = [own & (np.arange(len(own)) % 2 == 0) for own in changed]
    kl = [
        generator.lognormal(0, 1, size) * (0.02 + rate)
        for size, rate in zip(SIZES, rates, strict=True)
    ]
    together = [np.stack(own, 1) for own in zip(changed, lost, kl, strict=True)]
    truth = np.concatenate(together).mean(0)
    held = {"share": 0, "change": 0, "kl": 0, "unweighted": 0}
    for _ in range(draws):
        rows = [
            own[generator.choice(len(own), n, replace=False)]
            for own, n in zip(together, DRAWS, strict=True)
        ]
        found = torch.from_numpy(np.concatenate(rows))
        drawn = design(SIZES, DRAWS)
        moved, gone = found[:, 0] > 0, found[:, 1] > 0
        intervals: dict[str, tuple[Interval, float]] = {
            "share": (stratified_share_interval(moved, drawn, expected=THOUGHT), truth[0]),
            "change": (
                stratified_difference_interval(
                    gone, moved & ~gone, drawn, expected_lost=THOUGHT, expected_won=THOUGHT
                ),
                truth[0] - 2 * truth[1],
            ),
            "kl": (stratified_interval(found[:, 2], drawn, positive=True), truth[2]),
            "unweighted": (
                Interval(*proportion_confint(int(moved.sum()), len(moved), method="wilson")),
                truth[0],
            ),
        }
        for name, ((low, high), true) in intervals.items():
            held[name] += bool(low <= true <= high)
    return {name: count / draws for name, count in held.items()}


@pytest.mark.simulation
@pytest.mark.parametrize("scale", [1.0, 0.15])
def test_intervals_hold_the_truth_of_all_documents_in_95_of_100(scale: float) -> None:
    """300 seeded samples of a world of 7 % changes and of one of 1 %; three errors of the count."""
    held = _coverage([rate * scale for rate in RATES], 300)
    slack = 3 * sqrt(0.95 * 0.05 / 300)
    for name in ("share", "change", "kl"):
        assert held[name] >= 0.95 - slack, held
    assert held["unweighted"] < 0.5  # control: without weights the truth is missed


@pytest.mark.simulation
def test_the_share_is_held_no_more_than_it_has_to_be() -> None:
    """Control for the test above: intervals are not so wide that they cannot fail."""
    held = _coverage(RATES, 300, seed=1)
    assert held["share"] < 0.995
    assert held["change"] < 0.995
