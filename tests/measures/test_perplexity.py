"""Paired perplexity: statsmodels' weighted regression, hand counts, identities and edges."""

from __future__ import annotations

from math import exp, inf, isnan, log, nan, sqrt

import jaxtyping
import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from torch import Tensor

from lm_eval_flips.measures.perplexity import (
    PerplexityChange,
    loss_residuals,
    perplexity_change,
)

UNDEFINED = pytest.approx((nan, nan), nan_ok=True)


def _texts(generator: torch.Generator, n: int = 60) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihoods of n texts of 20 to 400 words under both models, and the words."""
    units = torch.randint(20, 400, (n,), generator=generator).double()
    loss = 3 + 0.3 * torch.randn(n, generator=generator, dtype=torch.float64)
    worse = 0.02 + 0.05 * torch.randn(n, generator=generator, dtype=torch.float64)
    return -loss * units, -(loss + worse) * units, units


def _change(
    texts: tuple[Tensor, Tensor, Tensor], device: str = "cpu", clusters: Tensor | None = None
) -> PerplexityChange:
    baseline, compressed, units = (side.to(device) for side in texts)
    return perplexity_change(
        baseline=baseline,
        compressed=compressed,
        units=units,
        clusters=None if clusters is None else clusters.to(device),
    )


def _regression(texts: tuple[Tensor, Tensor, Tensor], clusters: Tensor) -> tuple[float, float]:
    """Ratio of sums and its clustered error: the slope of loss on units, weighted by 1 / units."""
    baseline, compressed, units = (side.numpy() for side in texts)
    fit = sm.WLS(baseline - compressed, units, weights=1 / units).fit(
        cov_type="cluster", cov_kwds={"groups": clusters.numpy(), "use_correction": True}
    )
    return float(fit.params[0]), float(fit.bse[0])


def test_losses_are_ratios_of_sums(device: str, generator: torch.Generator) -> None:
    """Each loss is -sum of log-likelihoods / sum of units, as the harness's weighted perplexity."""
    baseline, compressed, units = texts = _texts(generator)
    found = _change(texts, device)
    expected = -np.array([baseline.sum(), compressed.sum()]) / float(units.sum())
    assert [found.baseline_loss, found.compressed_loss] == pytest.approx(expected, rel=1e-12)
    assert found.ratio == pytest.approx(exp(expected[1]) / exp(expected[0]), rel=1e-12)


def test_change_counted_by_hand(device: str) -> None:
    """Losses 60/40 = 1.5 and 68/40 = 1.7: ratio e^0.2; residuals of sum of squares 8 an error.

    The change is 2 of 10, 2 of 10 and 4 of 20 units at a slope of 0.2: no residual; with 6, 0 and 2
    it is 4, -2 and -2, so the error is sqrt((16 + 4 + 4) * 3/2) / 40 = 0.15.
    """
    units = torch.tensor([10.0, 10.0, 20.0], device=device)
    baseline = torch.tensor([-20.0, -10.0, -30.0], device=device)
    even = perplexity_change(baseline=baseline, compressed=baseline - 0.2 * units, units=units)
    assert even.ratio == pytest.approx(exp(0.2), rel=1e-6)
    assert even.standard_error == pytest.approx(0.0, abs=1e-6)
    uneven = perplexity_change(
        baseline=baseline,
        compressed=baseline - torch.tensor([6.0, 0.0, 2.0], device=device),
        units=units,
    )
    assert (uneven.baseline_loss, uneven.compressed_loss) == pytest.approx((1.5, 1.7), rel=1e-12)
    assert uneven.standard_error == pytest.approx(0.15, rel=1e-9)
    assert uneven.n == 3
    assert uneven.freedom == pytest.approx(2, rel=1e-9)


def test_error_matches_statsmodels(device: str, generator: torch.Generator) -> None:
    """Change and error equal a weighted regression with cluster-robust errors."""
    texts = _texts(generator)
    for clusters in (torch.arange(60), torch.arange(60) % 15):
        found = _change(texts, device, clusters)
        change, error = _regression(texts, clusters)
        assert found.loss_change == pytest.approx(change, rel=1e-9)
        assert found.standard_error == pytest.approx(error, rel=1e-9)
        assert found.freedom == pytest.approx(int(clusters.max()), rel=1e-9)


def test_error_check_can_fail(generator: torch.Generator) -> None:
    """Control for the test above: one text's log-likelihood off by 5 nats breaks the comparison."""
    texts = _texts(generator)
    change, error = _regression(texts, torch.arange(60))
    texts[1][11] -= 5.0
    found = _change(texts)
    assert found.loss_change != pytest.approx(change, rel=1e-4)
    assert found.standard_error != pytest.approx(error, rel=1e-4)


def test_residuals_are_statsmodels(device: str, generator: torch.Generator) -> None:
    """What each text loses beyond the common ratio is the residual of the weighted regression."""
    baseline, compressed, units = _texts(generator)
    fit = sm.WLS((baseline - compressed).numpy(), units.numpy(), weights=1 / units.numpy()).fit()
    found = loss_residuals(
        baseline=baseline.to(device), compressed=compressed.to(device), units=units.to(device)
    ).cpu()
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(fit.resid.tolist(), rel=1e-9, abs=1e-10)
    assert found.tolist() != pytest.approx((baseline - compressed).tolist(), rel=0.1)


def test_error_of_the_residuals_is_that_of_the_change(generator: torch.Generator) -> None:
    """Residuals sum to 0; the error of their mean, times n over all units, is the change's."""
    baseline, compressed, units = texts = _texts(generator)
    residuals = loss_residuals(baseline=baseline, compressed=compressed, units=units).numpy()
    assert residuals.sum() == pytest.approx(0.0, abs=1e-9)
    found = _change(texts)
    error = stats.sem(residuals) * 60 / float(units.sum())
    assert found.standard_error == pytest.approx(error, rel=1e-10)
    assert found.standard_error != pytest.approx(stats.sem(residuals), rel=0.1)


def test_residuals_counted_by_hand(device: str) -> None:
    """Losses of 6, 0 and 2 nats over 10, 10 and 20 units are 4, -2 and -2 beyond 0.2 a unit."""
    found = loss_residuals(
        baseline=torch.tensor([-20.0, -10.0, -30.0], device=device),
        compressed=torch.tensor([-26.0, -10.0, -32.0], device=device),
        units=torch.tensor([10.0, 10.0, 20.0], device=device),
    )
    assert found.tolist() == pytest.approx([4.0, -2.0, -2.0], rel=1e-12)


def test_perplexities_are_exponents_of_the_losses(device: str, generator: torch.Generator) -> None:
    """Either run's perplexity is exp(-sum / units), and their quotient the ratio."""
    baseline, compressed, units = texts = _texts(generator)
    found = _change(texts, device)
    expected = [float(np.exp(-side.sum() / units.sum())) for side in (baseline, compressed)]
    assert [found.baseline_perplexity, found.compressed_perplexity] == pytest.approx(
        expected, rel=1e-12
    )
    assert found.ratio == pytest.approx(expected[1] / expected[0], rel=1e-12)
    assert found.baseline_perplexity != pytest.approx(expected[1], rel=1e-3)


def test_units_of_one_make_it_the_paired_t_test(device: str, generator: torch.Generator) -> None:
    """For cloze samples the interval of the change of loss is scipy's paired t interval."""
    baseline, compressed, _ = _texts(generator)
    found = _change((baseline, compressed, torch.ones(60, dtype=torch.float64)), device)
    expected = stats.ttest_rel(baseline.numpy(), compressed.numpy()).confidence_interval(0.9)
    assert found.loss_interval(level=0.9) == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_texts_are_independent_unless_told(generator: torch.Generator) -> None:
    """Without clusters every text is its own."""
    texts = _texts(generator)
    assert _change(texts) == _change(texts, clusters=torch.arange(60))


def test_swapping_runs_inverts_the_ratio(device: str, generator: torch.Generator) -> None:
    """Exchanging the runs negates the change, inverts ratio and interval, keeps the error."""
    baseline, compressed, units = _texts(generator)
    there = _change((baseline, compressed, units), device)
    back = _change((compressed, baseline, units), device)
    assert back.loss_change == pytest.approx(-there.loss_change, rel=1e-12)
    assert back.ratio == pytest.approx(1 / there.ratio, rel=1e-12)
    assert back.standard_error == pytest.approx(there.standard_error, rel=1e-12)
    low, high = there.ratio_interval()
    assert back.ratio_interval() == pytest.approx((1 / high, 1 / low), rel=1e-12)


def test_identical_runs_have_ratio_one(device: str, generator: torch.Generator) -> None:
    """A run compared with itself has a ratio of exactly 1 and no error."""
    baseline, _, units = _texts(generator)
    found = _change((baseline, baseline.clone(), units), device)
    assert (found.loss_change, found.ratio, found.standard_error) == (0.0, 1.0, 0.0)


def test_identical_runs_check_can_fail(device: str, generator: torch.Generator) -> None:
    """Control for the test above: one text off by one nat must be seen."""
    baseline, _, units = _texts(generator)
    moved = baseline.clone()
    moved[0] -= 1
    found = _change((baseline, moved, units), device)
    assert found.loss_change == pytest.approx(1 / float(units.sum()), rel=1e-6)
    assert found.standard_error > 0


def test_counting_bytes_instead_of_words_scales_the_change(generator: torch.Generator) -> None:
    """Five bytes a word: a fifth of the change and error a unit, and the bits are nats / ln 2."""
    baseline, compressed, units = _texts(generator)
    words, bytes_ = (_change((baseline, compressed, k * units)) for k in (1, 5))
    assert bytes_.loss_change == pytest.approx(words.loss_change / 5, rel=1e-12)
    assert bytes_.standard_error == pytest.approx(words.standard_error / 5, rel=1e-10)
    assert bytes_.bits_change == pytest.approx(bytes_.loss_change / log(2), rel=1e-15)
    low, high = bytes_.loss_interval()
    assert bytes_.bits_interval() == pytest.approx((low / log(2), high / log(2)), rel=1e-15)
    assert bytes_.ratio_interval() == pytest.approx((exp(low), exp(high)), rel=1e-15)


def test_pairing_beats_separate_errors(generator: torch.Generator) -> None:
    """The paired error is a small part of either perplexity's own."""
    baseline, _, units = texts = _texts(generator)
    own = perplexity_change(baseline=torch.zeros(60).double(), compressed=baseline, units=units)
    assert _change(texts).standard_error < own.standard_error / 4


def test_splitting_a_text_into_clustered_halves_changes_nothing(
    generator: torch.Generator,
) -> None:
    """Half of each text logged twice, under one cluster, is the same evidence."""
    texts = _texts(generator)
    halves = tuple((side / 2).repeat(2) for side in texts)
    found = _change((halves[0], halves[1], halves[2]), clusters=torch.arange(60).repeat(2))
    whole = _change(texts)
    assert found.loss_change == pytest.approx(whole.loss_change, rel=1e-12)
    assert found.standard_error == pytest.approx(whole.standard_error, rel=1e-10)


def test_float32_input_is_close(device: str, generator: torch.Generator) -> None:
    """Single-precision log-likelihoods and units give the same numbers to single precision."""
    texts = _texts(generator)
    single = _change((texts[0].float(), texts[1].float(), texts[2].float()), device)
    double = _change(texts)
    assert single.loss_change == pytest.approx(double.loss_change, rel=1e-4)
    assert single.standard_error == pytest.approx(double.standard_error, rel=1e-4)


def test_no_texts_give_nan_not_zero(device: str) -> None:
    """No texts, or texts without a unit, have no loss, no ratio and no interval."""
    for n in (0, 3):
        zeros = torch.zeros(n, device=device)
        found = perplexity_change(baseline=zeros, compressed=zeros, units=zeros)
        assert found.n == n
        assert isnan(found.baseline_loss)
        assert isnan(found.baseline_perplexity)
        assert isnan(found.compressed_perplexity)
        assert isnan(found.loss_change)
        assert isnan(found.ratio)
        assert isnan(found.bits_change)
        assert found.loss_interval() == UNDEFINED
        assert found.ratio_interval() == UNDEFINED
        assert found.bits_interval() == UNDEFINED


def test_one_text_has_a_ratio_without_an_interval(device: str) -> None:
    """A single text, or texts of a single cluster, have a change whose error is unknown."""
    for n in (1, 4):
        found = perplexity_change(
            baseline=torch.full((n,), -10.0, device=device),
            compressed=torch.full((n,), -11.0, device=device),
            units=torch.full((n,), 10.0, device=device),
            clusters=torch.zeros(n, dtype=torch.long, device=device),
        )
        assert found.ratio == pytest.approx(exp(0.1), rel=1e-6)
        assert isnan(found.standard_error)
        assert found.freedom == 0
        assert found.ratio_interval() == UNDEFINED


def test_ratio_too_large_for_a_float_is_infinite() -> None:
    """A change of 800 nats a unit, as of a broken model's long continuations, is inf, no crash."""
    found = PerplexityChange(
        n=3, baseline_loss=1.0, compressed_loss=801.0, standard_error=1.0, freedom=2
    )
    assert found.ratio == inf
    assert found.compressed_perplexity == inf
    assert found.baseline_perplexity == pytest.approx(exp(1.0), rel=1e-15)
    better = PerplexityChange(
        n=3, baseline_loss=801.0, compressed_loss=1.0, standard_error=1.0, freedom=2
    )
    assert (better.baseline_perplexity, better.ratio) == (inf, 0.0)


def test_ratio_interval_too_large_for_a_float_is_infinite() -> None:
    """Two samples whose changes differ by 120 nats have an interval up to inf, no crash."""
    found = perplexity_change(
        baseline=torch.tensor([-10.0, -10.0]),
        compressed=torch.tensor([-10.0, -130.0]),
        units=torch.ones(2),
    )
    low, high = found.ratio_interval()
    assert 0 <= low < found.ratio
    assert high == inf


def test_texts_of_other_length_are_refused() -> None:
    """The shapes in the signature are checked under test: 3 texts cannot go with 2."""
    with pytest.raises(jaxtyping.TypeCheckError, match="compressed"):
        perplexity_change(baseline=torch.zeros(3), compressed=torch.zeros(2), units=torch.ones(3))


def test_ratio_interval_covers(generator: torch.Generator) -> None:
    """Over 400 samples of 50 texts the 95 % interval holds the true change in about 95 %.

    Control: an interval half as wide covers far less.
    """
    trials, covered, narrow = 400, 0, 0
    for _ in range(trials):
        found = _change(_texts(generator, 50))
        low, high = found.loss_interval()
        covered += low <= 0.02 <= high
        middle, quarter = (low + high) / 2, (high - low) / 4
        narrow += middle - quarter <= 0.02 <= middle + quarter
    assert 0.92 <= covered / trials <= 0.98
    assert narrow / trials < 0.85
    assert sqrt(0.95 * 0.05 / trials) < 0.011  # so the bounds above are nearly three errors wide
