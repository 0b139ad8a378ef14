"""Rank correlation and AUROC: scipy, scikit-learn, a jackknife, a bootstrap, and coverage."""

from __future__ import annotations

from collections.abc import Callable
from math import asin, atanh, inf, isnan, nan, pi, sqrt, tanh

import jaxtyping
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import Tensor

from lm_eval_flips.measures.auroc import Auroc, auroc, auroc_influence, auroc_interval
from lm_eval_flips.measures.correlation import spearman, spearman_influence, spearman_interval
from lm_eval_flips.measures.ranks import ranks

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)


def _distinct(generator: torch.Generator, n: int = 200) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, generator=generator, dtype=torch.float64)
    return x, x + 2 * torch.randn(n, generator=generator, dtype=torch.float64)


def _tied(generator: torch.Generator, n: int = 200) -> tuple[Tensor, Tensor]:
    """Many KL of exactly 0 against a yes or no, as of flips."""
    x, y = _distinct(generator, n)
    return x.clamp_min(0.0), (y > 1).double()


def _detector(
    generator: torch.Generator, positives: int = 40, negatives: int = 70, *, shift: float = 1.0
) -> tuple[Tensor, Tensor]:
    score = torch.randn(positives + negatives, generator=generator, dtype=torch.float64)
    positive = torch.arange(positives + negatives) < positives
    return score + shift * positive, positive


@pytest.mark.parametrize("values", [_distinct, _tied])
def test_ranks_match_scipy(
    device: str,
    generator: torch.Generator,
    values: Callable[[torch.Generator], tuple[Tensor, Tensor]],
) -> None:
    """Ranks equal scipy's rankdata, ties sharing their mean."""
    for side in values(generator):
        expected = torch.from_numpy(stats.rankdata(side.numpy()))
        torch.testing.assert_close(ranks(side.to(device)).cpu(), expected, rtol=0, atol=0)


def test_ranks_counted_by_hand(device: str) -> None:
    """Infinite values are the first and last; -0 ties with 0; three equal ones share rank 4."""
    values = torch.tensor([7.0, -inf, 7.0, 0.0, 7.0, -0.0, inf], device=device)
    assert ranks(values).tolist() == [5.0, 1.0, 5.0, 2.5, 5.0, 2.5, 7.0]


def test_ranks_add_up(device: str, generator: torch.Generator) -> None:
    """With or without ties the ranks of n values sum to n (n + 1) / 2."""
    for side in _tied(generator):
        assert float(ranks(side.to(device)).sum()) == 200 * 201 / 2


def test_ranks_of_no_values_are_none(device: str) -> None:
    """An empty tensor has empty ranks."""
    assert ranks(torch.zeros(0, device=device)).shape == (0,)


@pytest.mark.parametrize("values", [_distinct, _tied])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spearman_matches_scipy(
    device: str,
    generator: torch.Generator,
    values: Callable[[torch.Generator], tuple[Tensor, Tensor]],
    dtype: torch.dtype,
) -> None:
    """The statistic equals scipy's spearmanr, with and without ties, in single and double."""
    x, y = (side.to(dtype) for side in values(generator))
    found = spearman(x.to(device), y.to(device))
    expected = stats.spearmanr(x.numpy(), y.numpy()).statistic
    assert found.n == 200
    assert found.statistic == pytest.approx(expected, rel=1e-12)


def test_spearman_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one value moved to the top is seen."""
    x, y = _distinct(generator)
    expected = stats.spearmanr(x.numpy(), y.numpy()).statistic
    x[x.argmin()] = 100.0
    assert spearman(x, y).statistic != pytest.approx(expected, rel=1e-4)


def test_spearman_counted_by_hand() -> None:
    """Ranks 1 2 3 4 5 against 2 1 4 3 5 differ by squares of sum 4: 1 - 6*4 / (5*24) = 0.8."""
    found = spearman(torch.arange(5.0), torch.tensor([2.0, 1.0, 4.0, 3.0, 5.0]))
    assert found.statistic == pytest.approx(0.8, rel=1e-12)


def test_spearman_sees_order_alone(device: str, generator: torch.Generator) -> None:
    """It is symmetric, unchanged by an increasing map, and negated by a decreasing one."""
    x, y = (side.to(device) for side in _distinct(generator))
    plain = spearman(x, y).statistic
    assert spearman(y, x).statistic == pytest.approx(plain, rel=1e-12)
    assert spearman(x.exp(), y**3).statistic == pytest.approx(plain, rel=1e-12)
    assert spearman(-x, y).statistic == pytest.approx(-plain, rel=1e-12)
    assert spearman(x, x).statistic == 1.0
    assert spearman(x, -x).statistic == -1.0


def test_spearman_of_an_infinite_kl_ranks_it_last(device: str) -> None:
    """An infinite value is only the largest."""
    y = torch.tensor([1.0, 2.0, 4.0, 3.0], device=device)
    infinite = spearman(torch.tensor([0.1, 0.2, 0.3, inf], device=device), y)
    finite = spearman(torch.tensor([0.1, 0.2, 0.3, 9.0], device=device), y)
    assert infinite == finite


def test_spearman_of_a_constant_is_nan(device: str) -> None:
    """Either side constant, such as no flip at all, leaves the correlation undefined."""
    constant, other = torch.full((5,), 0.3, device=device), torch.arange(5.0, device=device)
    for x, y in ((constant, other), (other, constant), (constant, constant)):
        found = spearman(x, y)
        assert isnan(found.statistic)
        assert found.interval == UNDEFINED


def test_spearman_of_nan_is_nan(device: str) -> None:
    """An undefined measurement makes the correlation undefined, as in scipy."""
    x, y = torch.tensor([1.0, nan, 3.0, 4.0]), torch.arange(4.0)
    assert isnan(stats.spearmanr(x.numpy(), y.numpy()).statistic)
    assert isnan(spearman(x.to(device), y.to(device)).statistic)
    assert isnan(spearman(y.to(device), x.to(device)).statistic)


@pytest.mark.parametrize("n", [0, 1])
def test_spearman_of_fewer_than_two_is_nan(device: str, n: int) -> None:
    """No samples or one have no correlation, and no interval."""
    found = spearman(torch.ones(n, device=device), torch.ones(n, device=device))
    assert found.n == n
    assert isnan(found.statistic)
    assert found.interval == UNDEFINED


def test_spearman_of_other_samples_is_refused() -> None:
    """The shapes in the signature are checked under test: 3 values cannot go with 2."""
    with pytest.raises(jaxtyping.TypeCheckError, match="parameter 'y'"):
        spearman(torch.zeros(3), torch.zeros(2))


def test_spearman_interval_counted_by_hand() -> None:
    """For 0.5 of 28 pairs: 0.5493 -+ 1.96 * sqrt(1.125 / 25) on Fisher's scale."""
    half = 1.959964 * sqrt(1.125 / 25)
    expected = (tanh(0.549306 - half), tanh(0.549306 + half))
    assert expected == pytest.approx((0.13275, 0.74653), abs=1e-5)
    found = spearman_interval(0.5, 28)
    assert found == pytest.approx(expected, abs=1e-6)


def test_spearman_interval_is_pearsons_of_the_ranks_widened(generator: torch.Generator) -> None:
    """On Fisher's scale it is scipy's pearsonr interval times sqrt(1 + rho^2 / 2)."""
    x, y = _distinct(generator)
    low, high = stats.pearsonr(
        stats.rankdata(x.numpy()), stats.rankdata(y.numpy())
    ).confidence_interval(0.9)
    rho = spearman(x, y)
    found = spearman_interval(rho.statistic, rho.n, level=0.9)
    assert atanh(found.high) - atanh(found.low) == pytest.approx(
        (atanh(high) - atanh(low)) * sqrt(1 + rho.statistic**2 / 2), rel=1e-9
    )
    assert atanh(found.high) + atanh(found.low) == pytest.approx(2 * atanh(rho.statistic), rel=1e-9)


def test_spearman_interval_mirrors_and_widens() -> None:
    """Negating the correlation mirrors its interval; a higher level widens it."""
    low, high = spearman_interval(0.4, 30)
    assert spearman_interval(-0.4, 30) == pytest.approx((-high, -low), rel=1e-12)
    wide = spearman_interval(0.4, 30, level=0.99)
    assert wide.low < low < high < wide.high


@pytest.mark.parametrize(("n", "statistic"), [(3, 0.5), (30, 1.0), (30, -1.0), (30, nan)])
def test_spearman_interval_without_an_error_is_nan(n: int, statistic: float) -> None:
    """Three pairs, or a perfect correlation, say nothing about the error."""
    assert spearman_interval(statistic, n) == UNDEFINED


def test_spearman_interval_covers(generator: torch.Generator) -> None:
    """The 95 % interval holds the true correlation in about 95 % of 400 samples of 60 pairs."""
    r, trials = 0.6, 400
    truth = 6 / pi * asin(r / 2)  # of a bivariate normal
    covered = 0
    for _ in range(trials):
        x, e = torch.randn(2, 60, generator=generator, dtype=torch.float64)
        low, high = spearman(x, r * x + sqrt(1 - r * r) * e).interval
        covered += low <= truth <= high
    assert 0.92 <= covered / trials <= 0.98


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_auroc_matches_sklearn(
    device: str, generator: torch.Generator, tied: bool, dtype: torch.dtype
) -> None:
    """The area equals scikit-learn's, ties counting half."""
    score, positive = _detector(generator)
    score = (score.round() if tied else score).to(dtype)
    found = auroc(score=score.to(device), positive=positive.to(device))
    assert (found.positives, found.negatives) == (40, 70)
    assert found.statistic == pytest.approx(
        roc_auc_score(positive.numpy(), score.numpy()), rel=1e-12
    )


def test_auroc_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one positive moved to the bottom is seen."""
    score, positive = _detector(generator)
    expected = roc_auc_score(positive.numpy(), score.numpy())
    score[0] = -100.0
    assert auroc(score=score, positive=positive).statistic != pytest.approx(expected, rel=1e-4)


def test_auroc_counted_by_hand() -> None:
    """Of 2 x 3 pairs 4 are in order and 1 tied: 4.5 / 6."""
    found = auroc(
        score=torch.tensor([0.5, 0.2, 0.1, 0.2, 0.3]),
        positive=torch.tensor([True, True, False, False, False]),
    )
    assert found.statistic == pytest.approx(4.5 / 6, rel=1e-12)


def test_auroc_is_mann_whitneys_u(generator: torch.Generator) -> None:
    """The area is scipy's U over the number of pairs."""
    score, positive = _detector(generator)
    u = stats.mannwhitneyu(score[positive].numpy(), score[~positive].numpy()).statistic
    assert auroc(score=score, positive=positive).statistic == pytest.approx(u / 2800, rel=1e-12)


def test_auroc_of_the_negated_score_is_the_rest(device: str, generator: torch.Generator) -> None:
    """Negating the score, or the classes, gives 1 - AUROC with the same error."""
    score, positive = (side.to(device) for side in _detector(generator))
    plain = auroc(score=score, positive=positive)
    for other in (auroc(score=-score, positive=positive), auroc(score=score, positive=~positive)):
        assert other.statistic == pytest.approx(1 - plain.statistic, rel=1e-12)
        assert other.standard_error == pytest.approx(plain.standard_error, rel=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_auroc_error_matches_a_jackknife(
    device: str, generator: torch.Generator, tied: bool
) -> None:
    """DeLong's variance is that of leaving out each positive plus that of each negative.

    Left-out areas are scikit-learn's; the identity is exact (Arvesen's two-sample jackknife).
    """
    score, positive = _detector(generator, 12, 17)
    score = score.round() if tied else score
    kept = np.ones(29, dtype=bool)
    areas = []
    for i in range(29):
        kept[i] = False
        areas.append(roc_auc_score(positive.numpy()[kept], score.numpy()[kept]))
        kept[i] = True
    sides = np.array(areas[:12]), np.array(areas[12:])
    variance = sum((len(a) - 1) / len(a) * ((a - a.mean()) ** 2).sum() for a in sides)
    found = auroc(score=score.to(device), positive=positive.to(device))
    assert found.standard_error == pytest.approx(sqrt(variance), rel=1e-10)


def test_auroc_error_matches_a_bootstrap(generator: torch.Generator) -> None:
    """Resampling positives and negatives spreads the area by about DeLong's error."""
    score, positive = _detector(generator, 100, 150)
    found = auroc(score=score, positive=positive)
    above = (score[positive][:, None] > score[~positive]).double()
    times_drawn = [
        torch.zeros(2000, n, dtype=torch.float64).scatter_add_(
            1,
            torch.randint(n, (2000, n), generator=generator),
            torch.ones(2000, n, dtype=torch.float64),
        )
        for n in (100, 150)
    ]
    areas = ((times_drawn[0] @ above) * times_drawn[1]).sum(-1) / (100 * 150)
    assert found.standard_error == pytest.approx(float(areas.std()), rel=0.1)


def test_auroc_without_a_class_is_nan(device: str) -> None:
    """No flip, or nothing but flips, leaves the area undefined."""
    score, every = torch.arange(4.0, device=device), torch.ones(4, dtype=torch.bool, device=device)
    for positive in (every, ~every):
        found = auroc(score=score, positive=positive)
        assert isnan(found.statistic)
        assert isnan(found.standard_error)
        assert found.interval == UNDEFINED


def test_auroc_of_no_samples_is_nan(device: str) -> None:
    """No samples have no area."""
    found = auroc(
        score=torch.zeros(0, device=device),
        positive=torch.zeros(0, dtype=torch.bool, device=device),
    )
    assert (found.positives, found.negatives) == (0, 0)
    assert isnan(found.statistic)


def test_auroc_of_one_positive_has_no_error(device: str) -> None:
    """A single flip has a place among the others, but its variance is unknown."""
    found = auroc(
        score=torch.tensor([3.0, 1.0, 2.0, 4.0], device=device),
        positive=torch.tensor([True, False, False, False], device=device),
    )
    assert found.statistic == pytest.approx(2 / 3, rel=1e-12)
    assert isnan(found.standard_error)
    assert found.interval == UNDEFINED


def test_auroc_of_a_constant_score_is_one_half(device: str) -> None:
    """A score that is the same for all tells nothing, exactly."""
    found = auroc(
        score=torch.zeros(5, device=device),
        positive=torch.tensor([True, True, False, False, True], device=device),
    )
    assert found.statistic == 0.5


def test_auroc_of_nan_is_nan(device: str) -> None:
    """An undefined score has no place in the order."""
    found = auroc(
        score=torch.tensor([1.0, nan, 3.0, 4.0], device=device),
        positive=torch.tensor([False, True, False, True], device=device),
    )
    assert isnan(found.statistic)
    assert isnan(found.standard_error)
    assert found.interval == UNDEFINED


def test_auroc_of_an_infinite_score_ranks_it_last(device: str) -> None:
    """An infinite KL is the surest sign of a flip, no more."""
    positive = torch.tensor([False, True, False, True, False], device=device)
    infinite = auroc(
        score=torch.tensor([0.1, 0.2, 0.3, inf, 0.0], device=device), positive=positive
    )
    finite = auroc(score=torch.tensor([0.1, 0.2, 0.3, 9.0, 0.0], device=device), positive=positive)
    assert infinite == finite


def test_auroc_interval_is_the_normal_one_cut_to_shares() -> None:
    """The interval is scipy's normal interval, cut at 0 and 1."""
    found = Auroc(positives=20, negatives=30, statistic=0.7, standard_error=0.08)
    expected = stats.norm(0.7, 0.08).interval(0.9)
    assert auroc_interval(found, level=0.9) == pytest.approx(expected, rel=1e-12)
    cut = auroc_interval(Auroc(positives=20, negatives=30, statistic=0.97, standard_error=0.05))
    assert cut == pytest.approx((0.97 - 1.959964 * 0.05, 1.0), rel=1e-6)
    assert cut.high == 1.0


def test_auroc_without_overlap_has_no_interval(device: str) -> None:
    """Flips that all score above the others have area 1 and an error of 0, which bounds nothing."""
    score = torch.arange(8.0, device=device)
    for positive, area in ((score > 4, 1.0), (score <= 4, 0.0)):
        found = auroc(score=score, positive=positive)
        assert (found.statistic, found.standard_error) == (area, 0.0)
        assert found.interval == UNDEFINED
    overlap = auroc(score=score, positive=torch.tensor([0, 0, 0, 1, 0, 1, 1, 1], device=device) > 0)
    low, high = overlap.interval
    assert 0 < low < overlap.statistic < high == 1.0


def test_auroc_interval_covers(generator: torch.Generator) -> None:
    """The 95 % interval holds the true area in about 95 % of 400 samples of 60 + 60."""
    truth, trials = float(stats.norm.cdf(1 / sqrt(2))), 400
    covered = 0
    for _ in range(trials):
        score, positive = _detector(generator, 60, 60)
        low, high = auroc(score=score, positive=positive).interval
        covered += low <= truth <= high
    assert 0.92 <= covered / trials <= 0.98


# Influence: what each sample adds


def _kl_and_flips(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances with ties, and flips that follow them."""
    rng = np.random.default_rng(17)
    kl = np.round(rng.exponential(size=n), 1)
    return torch.from_numpy(kl), torch.from_numpy(rng.random(n) < 0.1 + 0.4 * (kl > 1))


def test_influence_is_what_leaving_a_sample_out_changes() -> None:
    """Both influences follow the jackknife's pseudo-values, ties and all; their mean is 0."""
    kl, flipped = _kl_and_flips(300)
    measures: list[tuple[torch.Tensor, Callable[[torch.Tensor], float]]] = [
        (
            spearman_influence(kl, flipped.double()),
            lambda kept: spearman(kl[kept], flipped[kept].double()).statistic,
        ),
        (
            auroc_influence(kl, flipped),
            lambda kept: auroc(score=kl[kept], positive=flipped[kept]).statistic,
        ),
    ]
    for influence, statistic in measures:
        assert float(influence.mean()) == pytest.approx(0, abs=1e-12)
        places = torch.arange(300)
        whole = statistic(places >= 0)
        pseudo = [299 * (whole - statistic(places != place)) for place in range(300)]
        assert np.corrcoef(influence, pseudo)[0, 1] > 0.9999
        assert float(influence.std()) == pytest.approx(float(np.std(pseudo, ddof=1)), rel=0.02)


def test_influence_of_the_area_has_delongs_error() -> None:
    """Its standard error is the one that the area itself is given; of other answers it is not."""
    kl, flipped = _kl_and_flips(300)
    error = float(auroc_influence(kl, flipped).std()) / sqrt(300)
    assert error == pytest.approx(auroc(score=kl, positive=flipped).standard_error, rel=0.01)
    other = flipped[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    assert error != pytest.approx(auroc(score=kl, positive=other).standard_error, rel=0.05)


def test_wider_intervals_are_wider_by_so_much() -> None:
    """Twice as wide on Fisher's scale, and for the area on its own."""
    low, high = spearman_interval(0.3, 100)
    wide = spearman_interval(0.3, 100, wider=2.0)
    assert atanh(wide.high) - atanh(wide.low) == pytest.approx(2 * (atanh(high) - atanh(low)))
    area = Auroc(positives=50, negatives=50, statistic=0.6, standard_error=0.05)
    assert 0.6 - auroc_interval(area, wider=2.0).low == pytest.approx(
        2 * (0.6 - auroc_interval(area).low)
    )
    for found in (spearman_interval(0.3, 100, wider=nan), auroc_interval(area, wider=nan)):
        assert found == UNDEFINED


def test_pairs_are_taken_within_tasks() -> None:
    """Two tasks in which KL tells flips well, on different scales: pooled it would turn over.

    The oracle is scikit-learn's area of each task, weighted by its pairs.
    """
    rng = np.random.default_rng(5)
    scores, marks, tasks = [], [], []
    for task, (scale, flips) in enumerate(((0.01, 40), (1.0, 8))):
        flipped = np.arange(100) < flips
        scores.append(scale * rng.lognormal(np.where(flipped, 1.0, 0.0), 1.0))
        marks.append(flipped)
        tasks.append(np.full(100, 3 + task))
    areas = [roc_auc_score(mark, score) for mark, score in zip(marks, scores, strict=True)]
    pairs = [40 * 60, 8 * 92]
    score, mark = torch.from_numpy(np.concatenate(scores)), torch.from_numpy(np.concatenate(marks))
    labels = torch.from_numpy(np.concatenate(tasks))
    found = auroc(score=score, positive=mark, tasks=labels)
    assert found.statistic == pytest.approx(np.average(areas, weights=pairs), rel=1e-12)
    assert found.statistic > 0.7
    assert roc_auc_score(mark.numpy(), score.numpy()) < 0.6
    assert found.interval.low < found.statistic < found.interval.high
    assert float(auroc_influence(score, mark, labels).mean()) == pytest.approx(0.0, abs=1e-12)
    # a single task is the plain area, with DeLong's error
    one = auroc(score=score[:100], positive=mark[:100], tasks=labels[:100])
    assert one == auroc(score=score[:100], positive=mark[:100])


def test_the_error_within_tasks_is_that_of_a_bootstrap() -> None:
    """Samples of each of two tasks drawn again 1,000 times: the areas' spread, to a tenth."""
    rng = np.random.default_rng(6)
    task = np.repeat([0, 1], [150, 250])
    mark = rng.random(400) < np.where(task == 0, 0.3, 0.15)
    score = rng.normal(mark * 0.8 + task, 1.0)

    def area(rows: np.ndarray) -> float:
        found = auroc(
            score=torch.from_numpy(score[rows]),
            positive=torch.from_numpy(mark[rows]),
            tasks=torch.from_numpy(task[rows]),
        )
        return found.statistic

    drawn = [
        area(np.concatenate([rng.integers(0, 150, 150), rng.integers(150, 400, 250)]))
        for _ in range(1000)
    ]
    found = auroc(
        score=torch.from_numpy(score), positive=torch.from_numpy(mark), tasks=torch.from_numpy(task)
    )
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.1)
