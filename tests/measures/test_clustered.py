"""Clustered errors against statsmodels, whole matrices, counts by hand, and a simulation."""

from __future__ import annotations

from math import isnan

import jaxtyping
import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.typing import NDArray
from scipy import linalg, stats
from torch import Tensor

from lm_eval_flips.measures.clustered import (
    effective_clusters,
    mean_variances,
    standard_error,
    stratified_variances,
)

Floats = NDArray[np.float64]


def _clustered_ols(values: Tensor, clusters: Tensor) -> float:
    """The cluster-robust error of the mean from statsmodels: a regression on a constant."""
    y: NDArray[np.float64] = values.double().numpy()
    fit = sm.OLS(y, np.ones(len(y))).fit(
        cov_type="cluster", cov_kwds={"groups": clusters.numpy(), "use_correction": True}
    )
    return float(fit.bse[0])


def _in_clusters(
    generator: torch.Generator, clusters: int = 30, size: int = 5
) -> tuple[Tensor, Tensor]:
    """Values whose cluster explains half of their variance, with mean 0."""
    place = torch.arange(clusters).repeat_interleave(size)
    shared = torch.randn(clusters, generator=generator, dtype=torch.float64)
    own = torch.randn(clusters * size, generator=generator, dtype=torch.float64)
    return shared[place] + own, place


def test_standard_error_of_independent_samples_is_scipys(
    device: str, generator: torch.Generator
) -> None:
    """With every sample its own cluster it is the ordinary standard error of the mean."""
    values = torch.randn(80, generator=generator, dtype=torch.float64)
    error, freedom = standard_error(values.to(device), torch.arange(80, device=device))
    assert freedom == pytest.approx(79, rel=1e-9)
    assert error == pytest.approx(stats.sem(values.numpy()), rel=1e-12)


def _cr2(values: Tensor, clusters: Tensor) -> tuple[float, float]:
    """Bell and McCaffrey's error of the mean and its degrees of freedom, by whole matrices."""
    y: Floats = values.double().numpy()
    labels, n = clusters.numpy(), len(y)
    x = np.ones((n, 1))
    bread = np.linalg.inv(x.T @ x)
    maker = np.eye(n) - x @ bread @ x.T
    variance, vectors = 0.0, []
    for label in np.unique(labels):
        own = labels == label
        power = linalg.inv(linalg.sqrtm(maker[np.ix_(own, own)])).real
        weight = (bread @ x[own].T @ power)[0]
        variance += float(weight @ (maker @ y)[own]) ** 2
        vectors.append(maker[:, own] @ weight)
    products = np.array(vectors) @ np.array(vectors).T
    return float(np.sqrt(variance)), float(np.trace(products) ** 2 / (products**2).sum())


def test_clustered_error_of_unequal_clusters_is_bell_and_mccaffreys(
    device: str, generator: torch.Generator
) -> None:
    """Error and degrees of freedom equal those of the matrices, for clusters of 1 to 40 samples."""
    sizes = torch.tensor([1, 2, 3, 3, 5, 8, 13, 40])
    clusters = torch.repeat_interleave(torch.arange(8), sizes)
    values = torch.randn(75, generator=generator, dtype=torch.float64)
    found = standard_error(values.to(device), clusters.to(device))
    assert found == pytest.approx(_cr2(values, clusters), rel=1e-9)
    assert found[1] < 4  # one cluster holds more than half: seven degrees there are not
    # control: the usual error is another
    assert found[0] != pytest.approx(_clustered_ols(values, clusters), rel=1e-2)


def test_clustered_error_of_equal_clusters_matches_statsmodels(
    device: str, generator: torch.Generator
) -> None:
    """With clusters of five it equals OLS with cov_type='cluster' on a constant."""
    values, clusters = _in_clusters(generator, 20, 5)
    error, freedom = standard_error(values.to(device), clusters.to(device))
    assert freedom == pytest.approx(19, rel=1e-9)
    assert error == pytest.approx(_clustered_ols(values, clusters), rel=1e-10)


def test_an_error_that_is_none_but_for_rounding_is_none(device: str) -> None:
    """Two clusters of 100 samples with one loss in each are alike: exactly 0, not 1e-18."""
    values = torch.zeros(200, dtype=torch.float64, device=device)
    values[[3, 150]] = -1.0
    clusters = torch.arange(200, device=device) // 100
    assert standard_error(values, clusters)[0] == 0.0
    assert standard_error(0.1 * values + 0.7, clusters)[0] == 0.0
    # control: a loss more in one of them is an error
    values[5] = -1.0
    assert standard_error(values, clusters)[0] == pytest.approx(0.005, rel=1e-9)


def test_kish_counts_equal_clusters() -> None:
    """57 subjects of one size are 57; the shipped suite's with eight large tasks are few."""
    assert effective_clusters([30] * 57) == 57.0
    assert effective_clusters([1, 3]) == pytest.approx(16 / 10)


@pytest.mark.simulation
def test_unequal_tasks_that_lost_nothing_raise_few_false_alarms() -> None:
    """12 tasks of 20 to 400 samples: t by CR2 alarms in at most 6.5 %; control: CR1 in more."""
    rng, draws = np.random.default_rng(4), 1500
    sizes = np.array([20] * 8 + [100, 100, 200, 400])
    clusters = np.repeat(np.arange(12), sizes)
    alarms = np.zeros(2)
    for _ in range(draws):
        values = rng.choice([-1.0, 0.0, 1.0], len(clusters), p=[0.05, 0.9, 0.05])
        error, freedom = standard_error(torch.from_numpy(values), torch.from_numpy(clusters))
        usual = _clustered_ols(torch.from_numpy(values), torch.from_numpy(clusters))
        for place, (scale, degrees) in enumerate(((error, freedom), (usual, 11))):
            alarms[place] += 2 * stats.t.sf(abs(values.mean()) / scale, degrees) < 0.05
    assert alarms[0] / draws <= 0.065
    assert alarms[1] / draws > 0.075


def test_clustered_error_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one sample moved to another cluster breaks the comparison."""
    values, clusters = _in_clusters(generator)
    expected = _clustered_ols(values, clusters)
    moved = clusters.clone()
    moved[0] = 29
    assert standard_error(values, moved)[0] != pytest.approx(expected, rel=1e-4)


def test_clustered_error_counted_by_hand(device: str) -> None:
    """Sums 2 and -2 of two clusters: sqrt((4 + 4) * 2/1 / 4^2) = 1."""
    error, freedom = standard_error(
        torch.tensor([1.0, 1.0, -1.0, -1.0], device=device),
        torch.tensor([0, 0, 1, 1], device=device),
    )
    assert error == pytest.approx(1.0, rel=1e-12)
    assert freedom == 1


def test_repeating_every_sample_leaves_the_clustered_error(generator: torch.Generator) -> None:
    """Logging each sample three times, one cluster each, adds no information."""
    values = torch.randn(40, generator=generator, dtype=torch.float64)
    once = standard_error(values, torch.arange(40))
    thrice = standard_error(values.repeat(3), torch.arange(40).repeat(3))
    assert thrice == pytest.approx(once, rel=1e-12)
    assert standard_error(values.repeat(3), torch.arange(120))[0] < 0.6 * once[0]


def test_standard_error_ignores_shift_order_and_cluster_names(generator: torch.Generator) -> None:
    """A constant, another order of samples and renamed clusters change nothing; a factor scales."""
    values, clusters = _in_clusters(generator)
    order = torch.randperm(len(values), generator=generator)
    plain = standard_error(values, clusters)
    moved = standard_error(values[order] + 5, 29 - clusters[order])
    assert moved == pytest.approx(plain, rel=1e-10)
    assert standard_error(-3 * values, clusters)[0] == pytest.approx(3 * plain[0], rel=1e-12)


def test_standard_error_of_float32_is_close(device: str, generator: torch.Generator) -> None:
    """Single-precision values give the error of the same numbers in double."""
    values, clusters = _in_clusters(generator)
    single = standard_error(values.float().to(device), clusters.to(device))
    assert single == pytest.approx(standard_error(values, clusters), rel=1e-5)


def test_one_cluster_has_no_error(device: str) -> None:
    """All samples in one cluster, one sample, or none: nan and no degrees of freedom, never 0."""
    for n in (0, 1, 5):
        clusters = torch.zeros(n, dtype=torch.long, device=device)
        error, freedom = standard_error(torch.arange(float(n), device=device), clusters)
        assert isnan(error)
        assert freedom == 0


def test_clusters_of_other_samples_are_refused() -> None:
    """The shapes in the signature are checked under test: 3 values cannot go with 2 clusters."""
    with pytest.raises(jaxtyping.TypeCheckError, match="clusters"):
        standard_error(torch.zeros(3), torch.zeros(2, dtype=torch.long))


def test_strata_of_independent_samples_at_once(generator: torch.Generator) -> None:
    """The weighted sum of each stratum's own variance; a stratum of one sample has none."""
    sizes = [2, 7, 40, 3]
    values = torch.randn(sum(sizes), 2, generator=generator)
    parts = torch.split(values, sizes)
    expected = torch.stack(
        [(len(part) / len(values)) ** 2 * part.double().var(0) / len(part) for part in parts]
    ).sum(0)
    found = stratified_variances(values, sizes)
    assert found.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
    assert stratified_variances(values, [51, 1]).isnan().all()


def test_samples_by_themselves_have_the_plain_variance(generator: torch.Generator) -> None:
    """Of the mean, with n - 1; values that only rounding tells apart have none."""
    values = torch.randn(30, 2, generator=generator)
    found = mean_variances(values, torch.arange(30), groups=30)
    assert found.tolist() == pytest.approx((values.double().var(0) / 30).tolist(), rel=1e-9)
    nearly = torch.full((30, 1), 0.1, dtype=torch.float64)
    nearly[::2] += 1e-16
    assert float(mean_variances(nearly, torch.arange(30), groups=30)) == 0
