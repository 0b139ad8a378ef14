"""Bootstrap intervals: numpy's own draws, scipy's bootstrap, exact binomials, and coverage."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, inf, isnan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lm_eval_flips.measures import bootstrap
from lm_eval_flips.measures.bootstrap import Bootstrap, Stratum
from lm_eval_flips.measures.clustered import standard_error
from lm_eval_flips.measures.significance import mean_interval
from tests.generators.paired import DEVICES, UNDEFINED, width

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MANY = Bootstrap(replicates=20_000)
MOST = 60_000


def skewed(seed: int, n: int, *, sigma: float = 1.0) -> Tensor:
    """Values as skewed as distances are: lognormal."""
    generator = torch.Generator().manual_seed(seed)
    return (sigma * torch.randn(n, generator=generator, dtype=torch.float64)).exp()


def alone(values: Tensor, device: str = "cpu") -> list[Stratum]:
    """One stratum of values that are independent."""
    return [(values.to(device), torch.arange(len(values), device=device))]


def in_clusters(seed: int, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Skewed values, half of whose spread their cluster shares, in no order; and the clusters."""
    place = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    shared, own = skewed(seed, len(sizes)), skewed(seed + 1, len(place))
    order = torch.randperm(len(place), generator=torch.Generator().manual_seed(seed))
    return (shared[place] + own)[order], place[order]


def robust(values: Floats, clusters: Ints) -> tuple[float, float]:
    """Mean and its cluster-robust variance, by the textbook; clusters are numbered from 0."""
    groups = int(clusters.max()) + 1
    sums = np.bincount(clusters, weights=values - values.mean(), minlength=groups)
    return float(values.mean()), float((sums**2).sum() * groups / (groups - 1) / len(values) ** 2)


def pooled(
    strata: Sequence[tuple[Floats, Ints]], like: Sequence[tuple[Floats, Ints]] | None = None
) -> tuple[float, float]:
    """Mean of several strata and its standard error; each of the size that it has in ``like``."""
    sizes = [len(values) for values, _ in like or strata]
    mean = variance = 0.0
    for n, (own, spread) in zip(sizes, (robust(*part) for part in strata), strict=True):
        mean, variance = mean + n / sum(sizes) * own, variance + (n / sum(sizes)) ** 2 * spread
    return mean, sqrt(variance)


def grouped(values: Floats, clusters: Ints) -> list[Floats]:
    """The values of each cluster."""
    return [values[clusters == c] for c in range(clusters.max() + 1)]


def together(groups: Sequence[Floats], chosen: Ints) -> tuple[Floats, Ints]:
    """Some clusters side by side, one that was chosen twice being two of them."""
    labels = np.repeat(np.arange(len(chosen)), [len(groups[c]) for c in chosen])
    return np.concatenate([groups[c] for c in chosen]), labels


def numpys(
    strata: Sequence[tuple[Floats, Ints]], *, replicates: int = 8000, seed: int = 99
) -> tuple[float, float]:
    """Bootstrap-t by numpy: clusters of each stratum drawn one by one and put side by side."""
    generator = np.random.default_rng(seed)
    members = [grouped(*part) for part in strata]
    centre, error = pooled(strata)
    ts = []
    for _ in range(replicates):
        drawn = [together(own, generator.integers(len(own), size=len(own))) for own in members]
        mean, spread = pooled(drawn, like=strata)
        ts.append((mean - centre) / spread)
    low, high = np.quantile(ts, [0.025, 0.975])
    return float(centre - high * error), float(centre - low * error)


def as_numpy(strata: Sequence[Stratum]) -> list[tuple[Floats, Ints]]:
    """The same for numpy."""
    return [(values.numpy(), clusters.numpy()) for values, clusters in strata]


# Means


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [25, 80])
def test_the_mean_has_numpys_bootstrap_t_interval(n: int, device: str) -> None:
    """Of independent values: 60,000 draws of each; ends agree to an eighth of a standard error."""
    values = skewed(n, n)
    found = Bootstrap(replicates=MOST).intervals(alone(values, device)).mean
    drawn = values.numpy()[np.random.default_rng(99).integers(n, size=(MOST, n))]
    mean, error = float(values.mean()), float(values.std()) / sqrt(n)
    ts = (drawn.mean(1) - mean) / (drawn.std(1, ddof=1) / sqrt(n))
    low, high = np.quantile(ts, [0.025, 0.975])
    expected = (mean - high * error, mean - low * error)
    assert found == pytest.approx(expected, abs=0.12 * error)
    # controls: neither Student's t nor the percentiles of the draws are near
    assert found != pytest.approx(tuple(mean_interval(mean, error, n - 1)), abs=0.12 * error)
    percentile: Any = stats.bootstrap(
        (values.numpy(),), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found != pytest.approx((percentile.low, percentile.high), abs=0.12 * error)


@pytest.mark.parametrize("device", DEVICES)
def test_the_mean_of_clusters_has_numpys_bootstrap_t_interval(device: str) -> None:
    """Clusters of one to nine values are drawn whole. Control: as independent values it differs."""
    sizes = [1 + k % 9 for k in range(30)]
    values, clusters = in_clusters(4, sizes)
    found = MANY.intervals([(values.to(device), clusters.to(device))]).mean
    error, _ = standard_error(values, clusters)
    expected = numpys(as_numpy([(values, clusters)]))
    assert found == pytest.approx(expected, abs=0.25 * error)
    assert MANY.intervals(alone(values)).mean != pytest.approx(expected, abs=0.25 * error)


@pytest.mark.parametrize("device", DEVICES)
def test_the_mean_of_strata_has_numpys_bootstrap_t_interval(device: str) -> None:
    """Strata keep their sizes, and are drawn apart; one of them has clusters."""
    clustered = in_clusters(6, [3] * 12)
    strata = [(skewed(7, 30), torch.arange(30)), clustered]
    found = MANY.intervals([(v.to(device), c.to(device)) for v, c in strata]).mean
    errors = [(len(v), standard_error(v, c)[0]) for v, c in strata]
    error = sqrt(sum((n * own) ** 2 for n, own in errors)) / 66
    assert found == pytest.approx(numpys(as_numpy(strata)), abs=0.25 * error)


def test_strata_far_apart_are_drawn_apart() -> None:
    """Moving one stratum by 1,000 moves the mean by its share, and adds nothing to the width."""
    low, high = skewed(8, 40), skewed(9, 60)
    there = Bootstrap().intervals([*alone(low), *alone(high)]).mean
    moved = Bootstrap().intervals([*alone(low), *alone(high + 1000)]).mean
    assert moved == pytest.approx((there.low + 600, there.high + 600), rel=1e-9)
    mixed = Bootstrap().intervals(alone(torch.cat([low, high + 1000]))).mean
    assert width(mixed) > 100 * width(moved)  # control: one stratum would have their distance


@pytest.mark.parametrize("size", [2, 5])
def test_clusters_of_one_size_are_their_means(size: int) -> None:
    """Drawing them is drawing their means, or sums, as independent values: the same draws."""
    values, clusters = in_clusters(10, [size] * 40)
    means = torch.zeros(40, dtype=torch.float64).index_add_(0, clusters, values) / size
    order = means.argsort()
    number = torch.empty(40, dtype=torch.int64)
    number[order] = torch.arange(40)  # independent values are drawn in their order
    found = Bootstrap().intervals([(values, number[clusters])]).mean
    assert found == pytest.approx(tuple(Bootstrap().intervals(alone(means)).mean), rel=1e-9)
    sums = Bootstrap().intervals(alone(size * means)).mean
    assert found == pytest.approx((sums.low / size, sums.high / size), rel=1e-9)


def test_copies_of_a_value_add_no_evidence() -> None:
    """Each value three times, one cluster each, has the interval of the value once."""
    values = skewed(11, 50).sort().values
    once = Bootstrap().intervals(alone(values)).mean
    clusters = torch.arange(50).repeat(3)
    thrice = Bootstrap().intervals([(values.repeat(3), clusters)]).mean
    assert thrice == pytest.approx(tuple(once), rel=1e-9)
    naive = Bootstrap().intervals(alone(values.repeat(3))).mean
    assert width(naive) < 0.7 * width(once)


@pytest.mark.parametrize("device", DEVICES)
def test_scale_and_shift_go_through(device: str) -> None:
    """Twice the values and one thousand more: twice the interval, and one thousand more."""
    values = skewed(12, 60)
    plain = Bootstrap().intervals(alone(values, device), [0.5])
    moved = Bootstrap().intervals(alone(2 * values + 1000, device), [0.5])
    for one, other in ((plain.mean, moved.mean), (plain.quantiles[0], moved.quantiles[0])):
        assert other == pytest.approx((2 * one.low + 1000, 2 * one.high + 1000), rel=1e-10)


def test_the_interval_leans_to_where_the_values_do() -> None:
    """A long tail to the right leaves the mean more room above; mirrored, below."""
    values = skewed(13, 40)
    low, high = Bootstrap().intervals(alone(values)).mean
    mean = float(values.mean())
    assert high - mean > 1.3 * (mean - low)
    mirrored = MANY.intervals(alone(-values)).mean
    error = float(values.std()) / sqrt(40)
    assert mirrored == pytest.approx((-high, -low), abs=0.3 * error)


def test_the_level_widens_the_interval() -> None:
    """At 80, 95 and 99 % each interval holds the one before."""
    found = [
        Bootstrap().intervals(alone(skewed(14, 60)), [0.5], level=p) for p in (0.8, 0.95, 0.99)
    ]
    for inner, outer in pairwise(found):
        assert outer.mean.low < inner.mean.low < inner.mean.high < outer.mean.high
        assert width(outer.quantiles[0]) > width(inner.quantiles[0])


# Quantiles


def expanded(groups: int, freedom: int, level: float = 0.95) -> float:
    """The share of the draws that is left below and above: Hesterberg's, of Student's t."""
    far = stats.t.ppf(0.5 + level / 2, freedom) * sqrt(groups / freedom)
    return float(stats.norm.sf(far))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n", "share"), [(30, 0.5), (100, 0.5), (400, 0.9), (2000, 0.99)])
def test_a_quantile_of_independent_values_is_bounded_exactly(
    n: int, share: float, device: str
) -> None:
    """The draws' order statistic has a known distribution: binomials. Ends are a rank off."""
    ordered = torch.arange(float(n))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    # the draw's quantile is at most the j-th value if enough of the draw is
    wanted = np.ceil(round(share * n, 6))
    below: Floats = np.asarray(stats.binom.sf(wanted - 1, n, np.arange(1, n + 1) / n))
    tail = expanded(n, n - 1)
    expected = [int((below < level).sum()) for level in (tail, 1 - tail)]
    (found,) = MANY.intervals(alone(ordered[order], device), [share]).quantiles
    # where ranks lie so dense that the draws cannot tell them apart
    assert found == pytest.approx(expected, abs=max(1, n // 500))


@pytest.mark.parametrize("n", [25, 60])
def test_a_median_has_scipys_percentile_interval(n: int) -> None:
    """At Hesterberg's level, by scipy's own draws. Control: at 90 % it is narrower."""
    values = skewed(15, n).sort().values

    def ranks(level: float) -> list[int]:
        ends: Any = stats.bootstrap(
            (np.arange(float(n)),),
            lambda x, axis: np.quantile(x, 0.5, axis=axis, method="inverted_cdf"),
            confidence_level=level,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        return [round(float(end)) for end in (ends.low, ends.high)]

    (found,) = MANY.intervals(alone(values), [0.5]).quantiles
    places = [int((values < end).sum()) for end in found]
    assert places == pytest.approx(ranks(1 - 2 * expanded(n, n - 1)), abs=1)
    low, high = ranks(0.9)
    assert high - low < places[1] - places[0]


@pytest.mark.parametrize("device", DEVICES)
def test_quantiles_of_clusters_have_numpys_percentile_interval(device: str) -> None:
    """Clusters drawn whole by numpy; the ends are within two ranks of 120."""
    values, clusters = in_clusters(16, [1 + k % 5 for k in range(40)])
    (found,) = MANY.intervals([(values.to(device), clusters.to(device))], [0.6]).quantiles
    generator = np.random.default_rng(5)
    groups = [values[clusters == c].numpy() for c in range(40)]
    drawn = [
        np.quantile(
            np.concatenate([groups[c] for c in generator.integers(40, size=40)]),
            0.6,
            method="inverted_cdf",
        )
        for _ in range(3000)
    ]
    tail = expanded(40, 39)
    expected = np.quantile(drawn, [tail, 1 - tail])
    places, wanted = (
        [int((values < end).sum()) for end in ends] for ends in (found, expected.tolist())
    )
    assert places == pytest.approx(wanted, abs=2)
    (single,) = MANY.intervals(alone(values), [0.6]).quantiles
    assert width(single) < 0.9 * width(found)  # control: as independent values


def test_quantiles_of_strata_are_those_of_all_values() -> None:
    """Numpy draws each stratum apart and takes the quantile of both together."""
    low, high = skewed(17, 60), skewed(18, 40) + 1
    (found,) = MANY.intervals([*alone(low), *alone(high)], [0.5]).quantiles
    generator = np.random.default_rng(6)
    draws = np.concatenate(
        [own.numpy()[generator.integers(len(own), size=(4000, len(own)))] for own in (low, high)],
        axis=1,
    )
    tail = expanded(100, 98)
    medians = np.quantile(draws, 0.5, axis=1, method="inverted_cdf")
    expected = np.quantile(medians, [tail, 1 - tail])
    whole = torch.cat([low, high])
    places, wanted = (
        [int((whole < end).sum()) for end in ends] for ends in (found, expected.tolist())
    )
    assert places == pytest.approx(wanted, abs=2)


@pytest.mark.parametrize(
    ("n", "share", "open_ends"),
    [
        (2000, 0.99, (False, False)),
        (1900, 0.99, (False, True)),
        (50, 0.99, (False, True)),
        (200, 0.09, (True, False)),
        (19, 0.5, (True, True)),
        (20, 0.5, (False, False)),
    ],
)
def test_a_quantile_with_few_values_beyond_it_is_open(
    n: int, share: float, open_ends: tuple[bool, bool]
) -> None:
    """Their draws never go beyond the values there are: the end is nan."""
    (found,) = Bootstrap(replicates=300).intervals(alone(skewed(19, n)), [share]).quantiles
    assert (isnan(found.low), isnan(found.high)) == open_ends


def test_copies_bound_a_quantile_no_further() -> None:
    """Forty copies of each of 60 documents: the 24 largest values are those of one document."""
    values, clusters = skewed(20, 60).repeat(40), torch.arange(60).repeat(40)
    (low, high) = Bootstrap().intervals([(values, clusters)], [0.99]).quantiles[0]
    assert low > float(values.median())
    assert isnan(high)
    (naive,) = Bootstrap().intervals(alone(values), [0.99]).quantiles
    assert not isnan(naive.high)  # control: taken for 2,400 documents they would


def seeded(strata: Sequence[Stratum], replicates: int, seed: int) -> list[list[Ints]]:
    """The clusters that each replicate has of each stratum: the draws that the seed gives."""
    generator = torch.Generator().manual_seed(seed)
    counts = [bootstrap._Stratum(*own).draw(replicates, generator).long().numpy() for own in strata]
    return [
        [np.repeat(np.arange(len(own)), own) for own in drawn]
        for drawn in zip(*counts, strict=True)
    ]


def test_the_same_draws_give_the_same_ends_by_numpy() -> None:
    """Two strata of 10 and 24 clusters: both intervals, replicate by replicate, to rounding."""
    strata = [in_clusters(30, [4] * 10), in_clusters(31, [2 + k % 3 for k in range(24)])]
    own, members = as_numpy(strata), [grouped(*part) for part in as_numpy(strata)]
    centre, error = pooled(own)
    shares = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    ts, quantiles = [], []
    for chosen in seeded(strata, 2000, 5):
        drawn = [together(*part) for part in zip(members, chosen, strict=True)]
        mean, spread = pooled(drawn, like=own)
        ts.append((mean - centre) / spread)
        whole = np.concatenate([values for values, _ in drawn])
        quantiles.append(np.quantile(whole, shares, method="inverted_cdf"))
    found = Bootstrap(replicates=2000, seed=5).intervals(strata, shares)
    low, high = np.sort(ts)[[50, -51]]
    assert found.mean == pytest.approx((centre - high * error, centre - low * error), rel=1e-9)
    beyond = int(expanded(34, 32) * 2000)
    ends = np.sort(quantiles, axis=0)[[beyond, -1 - beyond]].T
    assert [list(own) for own in found.quantiles] == ends.tolist()


# What cannot be bounded


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("clusters", [(0,) * 30, ()])
def test_one_cluster_has_no_interval(clusters: tuple[int, ...], device: str) -> None:
    """Nor has a pool of which one stratum is a single cluster, nor no stratum at all."""
    strata = (
        [(skewed(21, 30).to(device), torch.tensor(clusters, device=device))] if clusters else []
    )
    for own in (strata, [*strata, *alone(skewed(22, 30), device)] if strata else []):
        found = Bootstrap(replicates=200).intervals(own, [0.5, 0.9])
        assert found.mean == UNDEFINED
        for ends in found.quantiles:
            assert ends == UNDEFINED


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9 / 3])
@pytest.mark.parametrize("size", [1, 2])
def test_values_that_are_all_alike_have_no_interval_of_the_mean(size: int, value: float) -> None:
    """They show no error; that is no certainty. Their median is what they all are."""
    values = torch.full((40,), value, dtype=torch.float64)
    found = Bootstrap(replicates=300).intervals([(values, torch.arange(40) // size)], [0.5])
    assert found.mean == UNDEFINED
    assert found.quantiles[0] == (value, value)
    values[0] += 1  # control: one that differs shows some
    assert not isnan(Bootstrap(replicates=300).intervals(alone(values)).mean.low)


def test_a_value_that_many_draws_miss_leaves_its_side_open() -> None:
    """One of 50 is above 0: a third of the draws are all 0, and say nothing of how large it may be."""
    values = torch.zeros(50, dtype=torch.float64)
    values[7] = 1.0
    low, high = Bootstrap().intervals(alone(values)).mean
    assert low < 1 / 50
    assert isnan(high)
    low, high = Bootstrap().intervals(alone(1 - values)).mean
    assert isnan(low)
    assert high > 49 / 50


@pytest.mark.parametrize("clusters", [2, 3])
def test_two_or_three_clusters_leave_both_ends_open(clusters: int) -> None:
    """Too many draws are of one cluster alone: nan, not a number as large as a float can be."""
    place = torch.arange(30) % clusters
    assert Bootstrap().intervals([(skewed(23, 30), place)]).mean == UNDEFINED
    many = Bootstrap().intervals([(skewed(23, 30), torch.arange(30) % 6)]).mean
    assert 0 < width(many) < 100  # control


def test_infinite_values_have_a_median_and_no_mean() -> None:
    """A choice that only the compressed model rules out makes KL infinite."""
    values = skewed(24, 60)
    values[:5] = inf
    found = Bootstrap(replicates=300).intervals(alone(values), [0.5])
    assert found.mean == UNDEFINED
    assert 0 < found.quantiles[0].low < found.quantiles[0].high < inf
    values[:] = inf
    assert Bootstrap(replicates=300).intervals(alone(values), [0.5]).mean == UNDEFINED


# Draws


@pytest.mark.parametrize("device", DEVICES)
def test_the_seed_decides_the_draws(device: str) -> None:
    """The same seed gives the same ends, another one others; torch's own stream is left alone."""
    strata = alone(skewed(25, 40), device)
    state = torch.random.get_rng_state()
    found = [Bootstrap(replicates=500, seed=seed).intervals(strata, [0.5]) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0].mean != found[2].mean
    assert torch.equal(torch.random.get_rng_state(), state)


def test_every_cluster_is_drawn_as_often() -> None:
    """As many are drawn as there are, by equal chances: counts by numpy's chi-square."""
    drawn = bootstrap._Stratum(torch.zeros(7), torch.arange(7)).draw(
        3000, torch.Generator().manual_seed(3)
    )
    assert drawn.shape == (3000, 7)
    assert (drawn.sum(1) == 7).all()
    assert stats.chisquare(drawn.sum(0).numpy()).pvalue > 0.001
    # a single one's counts are binomial
    found = np.bincount(drawn[:, 0].long().numpy(), minlength=8)[:4]
    expected = 3000 * stats.binom.pmf(np.arange(4), 7, 1 / 7)
    assert found == pytest.approx(expected, abs=5 * np.sqrt(expected).max())


@pytest.mark.parametrize("clusters", [1, 3])
def test_drawing_in_parts_is_drawing(monkeypatch: pytest.MonkeyPatch, clusters: int) -> None:
    """As many replicates at a time as memory allows: parts of 7 give the interval of all at once."""
    values, place = skewed(26, 90), torch.arange(90) // clusters
    whole = MANY.intervals([(values, place)], [0.5])
    monkeypatch.setattr(bootstrap, "STEP", 7 * 90)
    parts = MANY.intervals([(values, place)], [0.5])
    error, _ = standard_error(values, place)
    assert parts.mean == pytest.approx(tuple(whole.mean), abs=0.2 * error)
    assert parts.quantiles[0] == pytest.approx(tuple(whole.quantiles[0]), abs=0.2 * error)


def test_the_order_of_the_values_does_not_matter() -> None:
    """Independent values in any order have one interval, to the last digit."""
    values = skewed(27, 70)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    found = [Bootstrap().intervals(alone(own), [0.5]) for own in (values, values[order])]
    assert found[0] == found[1]


# Coverage


def _covered(draws: int, n: int, *, sigma: float) -> tuple[float, float]:
    """How often bootstrap-t and Student's t hold the mean of a lognormal."""
    truth = exp(sigma**2 / 2)
    held = students = 0
    for draw in range(draws):
        values = skewed(draw, n, sigma=sigma)
        low, high = Bootstrap(replicates=400, seed=draw).intervals(alone(values)).mean
        held += not (truth < low or truth > high)
        error, freedom = standard_error(values, torch.arange(n))
        low, high = mean_interval(float(values.mean()), error, freedom)
        students += low <= truth <= high
    return held / draws, students / draws


def test_means_of_skewed_values_are_covered_better_than_by_students_t() -> None:
    """Of 25 lognormal values, 1,000 draws: about 91 % are held, by Student's t about 88 %."""
    found, students = _covered(1000, 25, sigma=1.0)
    assert found > 0.9
    assert found - students > 0.025


@pytest.mark.simulation
def test_means_of_clusters_are_covered() -> None:
    """Of 25 clusters of four, 600 draws. Control: as a hundred independent values far fewer are."""
    held = naive = 0
    truth = 2 * exp(0.5)
    for draw in range(600):
        values, clusters = in_clusters(2 * draw, [4] * 25)
        drawn = Bootstrap(replicates=400, seed=draw)
        low, high = drawn.intervals([(values, clusters)]).mean
        held += low <= truth <= high
        low, high = drawn.intervals(alone(values)).mean
        naive += low <= truth <= high
    assert held / 600 > 0.9
    assert naive / 600 < 0.8


@pytest.mark.simulation
def test_medians_are_covered() -> None:
    """Of 25 lognormal values, 1,000 draws: at least 93 %; order statistics leave no less."""
    held = 0
    for draw in range(1000):
        drawn = Bootstrap(replicates=400, seed=draw)
        (found,) = drawn.intervals(alone(skewed(draw, 25)), [0.5]).quantiles
        held += found.low <= 1.0 <= found.high
    assert 0.93 <= held / 1000 <= 0.995
