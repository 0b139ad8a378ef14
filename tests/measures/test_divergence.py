"""Distances over choices: scipy's entropy and Jensen-Shannon, identities, every edge by name."""

from __future__ import annotations

from dataclasses import fields
from math import inf, isnan, log

import jaxtyping
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor

from lm_eval_flips.measures.divergence import (
    Divergence,
    choice_divergence,
    quantile,
    summarise,
)

NAMES = [field.name for field in fields(Divergence)]


def _ragged(
    generator: torch.Generator, n: int = 60, *, noise: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Log-likelihoods of samples that have one to five choices each."""
    baseline, compressed = [], []
    for i in range(n):
        scores = 4 * torch.randn(1 + i % 5, generator=generator, dtype=torch.float64) - 20
        baseline.append(scores)
        change = torch.randn(len(scores), generator=generator, dtype=torch.float64)
        compressed.append(scores + noise * change)
    return baseline, compressed


def _padded(rows: list[Tensor], device: str = "cpu") -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-inf).to(device)


def _scipy(baseline: list[Tensor], compressed: list[Tensor]) -> dict[str, NDArray[np.float64]]:
    """The four distances from scipy, row by row, without any padding."""
    rows = []
    for one, other in zip(baseline, compressed, strict=True):
        p, q = softmax(one.double().numpy()), softmax(other.double().numpy())
        rows.append(
            (entropy(p, q), entropy(q, p), jensenshannon(p, q) ** 2, np.abs(p - q).sum() / 2)
        )
    return dict(zip(NAMES, np.array(rows).T, strict=True))


def _assert_matches(
    found: Divergence, expected: dict[str, NDArray[np.float64]], *, rtol: float, atol: float
) -> None:
    for name in NAMES:
        values, wanted = getattr(found, name).cpu(), torch.from_numpy(expected[name])
        torch.testing.assert_close(values, wanted, rtol=rtol, atol=atol)


def test_distances_match_scipy(device: str, generator: torch.Generator) -> None:
    """All four distances of a batch with one to five choices a sample equal scipy's."""
    baseline, compressed = _ragged(generator)
    found = choice_divergence(
        baseline=_padded(baseline, device), compressed=_padded(compressed, device)
    )
    _assert_matches(found, _scipy(baseline, compressed), rtol=1e-9, atol=1e-12)


def test_distances_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one log-likelihood moved by 0.001 breaks the comparison."""
    baseline, compressed = _ragged(generator)
    expected = _scipy(baseline, compressed)
    compressed[3][1] += 1e-3
    found = choice_divergence(baseline=_padded(baseline), compressed=_padded(compressed))
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        _assert_matches(found, expected, rtol=1e-9, atol=1e-12)


def test_kl_of_two_choices_counted_by_hand(device: str) -> None:
    """KL of (3/4, 1/4) from (1/2, 1/2) is 3/4 ln 3/2 + 1/4 ln 1/2 = 0.13081 nats; TV is 1/4."""
    found = choice_divergence(
        baseline=torch.tensor([[0.75, 0.25]], dtype=torch.float64, device=device).log(),
        compressed=torch.tensor([[0.5, 0.5]], dtype=torch.float64, device=device).log(),
    )
    assert float(found.kl) == pytest.approx(0.75 * log(1.5) + 0.25 * log(0.5), rel=1e-12)
    assert float(found.kl) == pytest.approx(0.13081, abs=5e-6)
    assert float(found.reverse_kl) == pytest.approx(0.5 * log(0.5 / 0.75) + 0.5 * log(2), rel=1e-12)
    assert float(found.total_variation) == pytest.approx(0.25, rel=1e-12)


def test_tiny_distances_keep_their_digits(device: str, generator: torch.Generator) -> None:
    """At 1e-9 nats the KL agrees with extended precision to six digits."""
    scores = 3 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    near = scores + 1e-4 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    log_p, log_q = (
        wide - np.log(np.exp(wide).sum(-1, keepdims=True))
        for wide in (scores.numpy().astype(np.longdouble), near.numpy().astype(np.longdouble))
    )
    expected = (np.exp(log_p) * (log_p - log_q)).sum(-1).astype(np.float64)
    assert expected.mean() < 1e-8
    found = choice_divergence(baseline=scores.to(device), compressed=near.to(device)).kl.cpu()
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-6, atol=1e-15)


def test_tiny_distances_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: single precision loses those digits."""
    scores = 3 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    near = scores + 1e-4 * torch.randn(200, 4, generator=generator, dtype=torch.float64)
    exact = choice_divergence(baseline=scores, compressed=near).kl
    rounded = choice_divergence(baseline=scores.float(), compressed=near.float()).kl
    assert float(((rounded - exact).abs() / exact).max()) > 1e-2


def test_float32_input_is_computed_in_float64(device: str, generator: torch.Generator) -> None:
    """Single-precision log-likelihoods give the distances of the same numbers in double."""
    baseline = torch.randn(30, 4, generator=generator).to(device)
    compressed = torch.randn(30, 4, generator=generator).to(device)
    single = choice_divergence(baseline=baseline, compressed=compressed)
    double = choice_divergence(baseline=baseline.double(), compressed=compressed.double())
    for name in NAMES:
        assert getattr(single, name).dtype == torch.float64
        torch.testing.assert_close(getattr(single, name), getattr(double, name), rtol=0, atol=0)


def test_swapping_runs_swaps_the_directions_of_kl(device: str, generator: torch.Generator) -> None:
    """Exchanging the runs exchanges KL with reverse KL and keeps the symmetric distances."""
    baseline, compressed = (_padded(rows, device) for rows in _ragged(generator))
    there = choice_divergence(baseline=baseline, compressed=compressed)
    back = choice_divergence(baseline=compressed, compressed=baseline)
    torch.testing.assert_close(there.kl, back.reverse_kl, rtol=0, atol=0)
    torch.testing.assert_close(there.reverse_kl, back.kl, rtol=0, atol=0)
    torch.testing.assert_close(there.jensen_shannon, back.jensen_shannon, rtol=1e-13, atol=1e-16)
    torch.testing.assert_close(there.total_variation, back.total_variation, rtol=0, atol=0)
    assert not torch.allclose(there.kl, there.reverse_kl, rtol=1e-2)


def test_identical_runs_have_no_distance(device: str, generator: torch.Generator) -> None:
    """Both KL and total variation of equal log-likelihoods are exactly 0, Jensen-Shannon nearly."""
    scores = _padded(_ragged(generator)[0], device)
    found = choice_divergence(baseline=scores, compressed=scores.clone())
    for name in ("kl", "reverse_kl", "total_variation"):
        assert torch.equal(getattr(found, name), torch.zeros_like(found.kl))
    assert float(found.jensen_shannon.max()) < 1e-15


def test_identical_runs_have_no_distance_check_can_fail(
    device: str, generator: torch.Generator
) -> None:
    """Control for the test above: one log-likelihood moved by 0.01 is seen in that sample alone."""
    scores = _padded(_ragged(generator)[0], device)
    moved = scores.clone()
    moved[4, 2] += 0.01
    found = choice_divergence(baseline=scores, compressed=moved)
    assert found.kl.nonzero().flatten().tolist() == [4]


def test_distances_stay_in_their_ranges(device: str, generator: torch.Generator) -> None:
    """No distance is negative, Jensen-Shannon is at most ln 2, total variation at most 1."""
    baseline, compressed = (_padded(rows, device) for rows in _ragged(generator, noise=30.0))
    found = choice_divergence(baseline=baseline, compressed=compressed)
    for name in NAMES:
        assert float(getattr(found, name).min()) >= 0
    assert float(found.jensen_shannon.max()) <= log(2) + 1e-15
    assert float(found.total_variation.max()) <= 1 + 1e-15


def test_rounding_makes_no_distance_negative(device: str, generator: torch.Generator) -> None:
    """Of 2000 samples that differ by 1e-9 nats no distance is negative: rounding is cut off."""
    scores = torch.randn(2000, 4, generator=generator, dtype=torch.float64)
    near = scores + 1e-9 * torch.randn(2000, 4, generator=generator, dtype=torch.float64)
    found = choice_divergence(baseline=scores.to(device), compressed=near.to(device))
    for name in NAMES:
        assert float(getattr(found, name).min()) >= 0


def test_pinsker_inequality_holds(device: str, generator: torch.Generator) -> None:
    """Total variation squared is at most half of either KL."""
    baseline, compressed = (_padded(rows, device) for rows in _ragged(generator, noise=3.0))
    found = choice_divergence(baseline=baseline, compressed=compressed)
    smaller = torch.minimum(found.kl, found.reverse_kl)
    assert bool((found.total_variation**2 <= smaller / 2 + 1e-15).all())


def test_distances_ignore_a_constant_and_the_order_of_choices(generator: torch.Generator) -> None:
    """Adding a constant to a sample's log-likelihoods or reordering its choices changes nothing."""
    baseline = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    compressed = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    plain = choice_divergence(baseline=baseline, compressed=compressed)
    moved = choice_divergence(baseline=baseline[:, order] - 7, compressed=compressed[:, order] + 3)
    for name in NAMES:
        torch.testing.assert_close(
            getattr(plain, name), getattr(moved, name), rtol=1e-10, atol=1e-13
        )


def test_padding_adds_nothing(device: str, generator: torch.Generator) -> None:
    """-inf beyond a sample's own choices contributes 0, never 0 * (-inf - -inf) = nan."""
    baseline = torch.randn(20, 3, generator=generator, dtype=torch.float64).to(device)
    compressed = torch.randn(20, 3, generator=generator, dtype=torch.float64).to(device)
    pad = torch.full((20, 4), -inf, dtype=torch.float64, device=device)
    plain = choice_divergence(baseline=baseline, compressed=compressed)
    padded = choice_divergence(
        baseline=torch.cat([baseline, pad], 1), compressed=torch.cat([compressed, pad], 1)
    )
    for name in NAMES:
        torch.testing.assert_close(
            getattr(plain, name), getattr(padded, name), rtol=1e-13, atol=1e-16
        )


def test_choice_ruled_out_by_the_compressed_run_alone_makes_kl_infinite(device: str) -> None:
    """KL is inf where only the second distribution is 0; reverse KL, JS and TV stay finite."""
    found = choice_divergence(
        baseline=torch.tensor([[0.0, 0.0]], device=device),
        compressed=torch.tensor([[0.0, -inf]], device=device),
    )
    p, q = np.array([0.5, 0.5]), np.array([1.0, 0.0])
    assert float(found.kl) == inf == entropy(p, q)
    assert float(found.reverse_kl) == pytest.approx(log(2), rel=1e-12)
    assert float(found.jensen_shannon) == pytest.approx(jensenshannon(p, q) ** 2, rel=1e-12)
    assert float(found.total_variation) == pytest.approx(0.5, rel=1e-12)


def test_choice_ruled_out_by_the_baseline_alone_makes_reverse_kl_infinite(device: str) -> None:
    """The mirror of the test above."""
    found = choice_divergence(
        baseline=torch.tensor([[0.0, -inf]], device=device),
        compressed=torch.tensor([[0.0, 0.0]], device=device),
    )
    assert float(found.kl) == pytest.approx(log(2), rel=1e-12)
    assert float(found.reverse_kl) == inf


def test_kl_is_infinite_also_where_the_first_probability_underflows(device: str) -> None:
    """A choice at e^-800 that the compressed run rules out gives inf, as documented, never nan."""
    found = choice_divergence(
        baseline=torch.tensor([[0.0, -800.0]], device=device),
        compressed=torch.tensor([[0.0, -inf]], device=device),
    )
    assert float(found.kl) == inf
    assert float(found.jensen_shannon) == pytest.approx(0.0, abs=1e-15)


def test_disjoint_choices_are_as_far_apart_as_can_be(device: str) -> None:
    """Runs certain of different choices: both KL inf, Jensen-Shannon ln 2, total variation 1."""
    found = choice_divergence(
        baseline=torch.tensor([[0.0, -inf, -inf]], device=device),
        compressed=torch.tensor([[-inf, 0.0, -inf]], device=device),
    )
    assert float(found.kl) == inf
    assert float(found.reverse_kl) == inf
    assert float(found.jensen_shannon) == pytest.approx(log(2), rel=1e-15)
    assert float(found.total_variation) == 1.0


def test_single_choice_has_no_distance(device: str) -> None:
    """One choice has probability 1 whatever its log-likelihood, so every distance is 0."""
    found = choice_divergence(
        baseline=torch.tensor([[-3.0], [-100.0]], device=device),
        compressed=torch.tensor([[-9.0], [-0.1]], device=device),
    )
    for name in NAMES:
        assert getattr(found, name).tolist() == [0.0, 0.0]


def test_sample_without_any_finite_loglikelihood_is_nan(device: str) -> None:
    """All choices at -inf is no distribution: nan for that sample, and for that sample only."""
    found = choice_divergence(
        baseline=torch.tensor([[-inf, -inf], [0.0, -1.0]], device=device),
        compressed=torch.tensor([[0.0, -1.0], [0.0, -1.0]], device=device),
    )
    for name in NAMES:
        assert isnan(float(getattr(found, name)[0]))
        assert float(getattr(found, name)[1]) == pytest.approx(0.0, abs=1e-15)


def test_no_samples_give_no_distances(device: str) -> None:
    """An empty batch gives empty distances, whose summary is nan."""
    nothing = torch.zeros(0, 4, device=device)
    found = choice_divergence(baseline=nothing, compressed=nothing)
    for name in NAMES:
        assert getattr(found, name).shape == (0,)
    summary = summarise(found.kl)
    assert all(isnan(x) for x in (summary.mean, summary.median, summary.p99, summary.max))


def test_runs_with_other_numbers_of_choices_are_refused() -> None:
    """The shapes in the signature are checked under test: 4 choices cannot be held against 3."""
    with pytest.raises(jaxtyping.TypeCheckError, match="compressed"):
        choice_divergence(baseline=torch.zeros(2, 4), compressed=torch.zeros(2, 3))


@pytest.mark.parametrize("n", [1, 2, 3, 50, 101, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_summary_matches_numpy(
    device: str, generator: torch.Generator, n: int, dtype: torch.dtype
) -> None:
    """Mean, median, p99 and max equal numpy's, quantiles interpolated linearly."""
    values = torch.rand(n, generator=generator, dtype=dtype)
    found = summarise(values.to(device))
    wide = values.double().numpy()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    expected = [wide.mean(), np.quantile(wide, 0.5), np.quantile(wide, 0.99), wide.max()]
    assert [found.mean, found.median, found.p99, found.max] == pytest.approx(
        expected, rel=tolerance
    )


def test_summary_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one value of 50 made large is seen by mean, p99 and max."""
    values = torch.rand(50, generator=generator)
    before = summarise(values)
    values[7] = 10.0
    after = summarise(values)
    assert after.mean > before.mean + 0.1
    assert after.p99 > before.p99 + 1
    assert after.max == 10.0
    assert after.median == pytest.approx(before.median, abs=0.1)


def test_summary_of_one_value_is_that_value(device: str) -> None:
    """Every number of a single value is the value itself."""
    found = summarise(torch.tensor([0.25], device=device))
    assert (found.mean, found.median, found.p99, found.max) == (0.25, 0.25, 0.25, 0.25)


def test_summary_with_an_infinite_value_keeps_its_finite_median(device: str) -> None:
    """One infinite KL of four makes the mean and the top infinite and leaves the median alone."""
    found = summarise(torch.tensor([inf, 1.0, 2.0, 3.0], device=device))
    assert (found.mean, found.median, found.max) == (inf, 2.5, inf)
    assert found.p99 == inf


def test_quantile_next_to_an_infinite_value_is_finite(device: str) -> None:
    """A quantile that falls exactly on a finite value is that value, as numpy's median says."""
    assert np.median([1.0, 2.0, inf]) == 2.0
    assert summarise(torch.tensor([1.0, 2.0, inf], device=device)).median == 2.0
    values = torch.arange(101, dtype=torch.float64, device=device)
    values[-1] = inf
    assert summarise(values).p99 == 99.0


def test_summary_of_infinite_values_is_infinite(device: str) -> None:
    """Two infinite neighbours interpolate to inf; inf - inf does not become nan."""
    found = summarise(torch.full((4,), inf, device=device))
    assert (found.mean, found.median, found.p99, found.max) == (inf, inf, inf, inf)


def test_summary_of_more_values_than_torch_quantile_takes() -> None:
    """Seventeen million values, one of them large, are summarised like any other number of them."""
    values = torch.zeros(2**24 + 1)
    values[7] = 3.0
    with pytest.raises(RuntimeError, match="input tensor is too large"):
        torch.quantile(values, 0.5)
    found = summarise(values)
    assert (found.median, found.p99, found.max) == (0.0, 0.0, 3.0)
    assert found.mean == pytest.approx(3 / (2**24 + 1), rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.01, 1 / 3, 0.5, 0.99, 0.9999, 1.0])
def test_quantile_is_numpy_s(device: str, generator: torch.Generator, share: float) -> None:
    """Any share of the samples lies below the same value as numpy says."""
    for n in (1, 2, 101, 333):
        values = torch.rand(n, generator=generator, dtype=torch.float64)
        expected = np.quantile(values.numpy(), share)
        assert quantile(values.to(device), share) == pytest.approx(expected, rel=1e-12)


def test_quantile_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: the neighbouring value, or no interpolation, is another one."""
    values = torch.rand(333, generator=generator, dtype=torch.float64)
    expected = np.quantile(values.numpy(), 0.987)
    assert quantile(values, 0.99) != pytest.approx(expected, rel=1e-6)
    lower = np.quantile(values.numpy(), 0.99, method="lower")
    assert quantile(values, 0.99) != pytest.approx(lower, rel=1e-9)


def test_quantile_between_finite_and_infinite_is_infinite(device: str) -> None:
    """Anywhere between a finite value and inf is inf; on the finite value itself it is that."""
    values = torch.tensor([3.0, inf, 1.0, inf, 2.0], device=device)
    assert [quantile(values, share) for share in (0.0, 0.25, 0.5)] == [1.0, 2.0, 3.0]
    assert [quantile(values, share) for share in (0.51, 0.75, 0.9, 1.0)] == [inf] * 4


def test_quantile_grows_with_the_share(device: str, generator: torch.Generator) -> None:
    """A larger share never has a smaller quantile, from the least value to the largest."""
    values = torch.rand(50, generator=generator, dtype=torch.float64).to(device)
    found = [quantile(values, i / 200) for i in range(201)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (float(values.min()), float(values.max()))
