"""Leads by hand, the expected curve by scipy and by drawing noise, smoothing by statsmodels."""

from __future__ import annotations

from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from scipy.special import logit
from torch import Tensor

from lm_eval_flips.measures.sampling.change_rates import (
    LOWEST,
    NOISES,
    SLOPE_ERROR,
    SPREAD,
    STRENGTH,
    expected_rate,
    leads,
    smoothed_rates,
    unknown_rate,
)


def _float(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_lead_is_the_difference_in_units_of_noise() -> None:
    """Nine tokens and one: the noise of their difference is the root of ten."""
    scores = torch.tensor([[-1.0, -3.0, -2.0]])
    lengths = torch.tensor([[36.0, 8.0, 2.0]])
    assert leads(scores, lengths).item() == pytest.approx(1 / sqrt(10))


def test_a_metric_that_divides_by_length_divides_the_noise_too() -> None:
    """acc_norm: as the noise of log-likelihoods over characters."""
    scores = torch.tensor([[-0.1, -0.3]])
    lengths = torch.tensor([[40.0, 8.0]])
    expected = 0.2 / sqrt(10 / 40**2 + 2 / 8**2)
    assert leads(scores, lengths, divisors=lengths).item() == pytest.approx(expected)


def test_a_single_choice_leads_by_all_and_unknown_lengths_count_as_usual() -> None:
    """-inf pads a question; nan stands for a length the log does not tell: four tokens."""
    scores = torch.tensor([[-1.0, -inf], [-1.0, -3.0]])
    lengths = torch.tensor([[4.0, nan], [nan, nan]])
    assert leads(scores, lengths).tolist() == pytest.approx([inf, 2 / sqrt(8)])
    assert leads(scores[:, :1], lengths[:, :1]).tolist() == [inf, inf]


def test_the_expected_curve_is_a_mean_of_normal_curves() -> None:
    """By scipy's normal distribution; never below what no lead makes safe."""
    lead = _float(0.0, 0.1, 0.5, 2.0)
    for noise in NOISES.values():
        curve = np.mean([stats.norm.sf(lead.numpy() / (noise * c)) for c in SPREAD], axis=0)
        np.testing.assert_allclose(expected_rate(lead, noise), np.maximum(curve, LOWEST))
    assert expected_rate(_float(inf, 1e9), 0.1).tolist() == [LOWEST, LOWEST]


def test_answers_change_as_often_as_expected_where_noise_is_as_assumed() -> None:
    """Noise of a token drawn for two choices of four and nine tokens, on all its scales."""
    generator = torch.Generator().manual_seed(3)
    scores, lengths = torch.tensor([[-1.0, -1.8]]), torch.tensor([[16.0, 36.0]])
    draws = 40_000
    changed = []
    for scale in SPREAD:
        noise = torch.randn(draws, 2, generator=generator) * torch.tensor([2.0, 3.0])
        changed.append(((scores + 0.25 * scale * noise).argmax(-1) == 1).double().mean())
    found = float(torch.stack(changed).mean())
    rate = expected_rate(leads(scores, lengths), 0.25).item()
    assert found == pytest.approx(rate, abs=4 * sqrt(0.25 / draws / len(SPREAD)))
    other = expected_rate(leads(scores, lengths), 0.5).item()
    assert abs(found - other) > 0.03  # control: twice the noise would be seen


def test_more_bits_change_less_and_so_does_a_larger_lead() -> None:
    """Both curves fall; that of 8 bits lies below, and so does its mean."""
    lead = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    four, eight = (expected_rate(lead, NOISES[name]) for name in ("4bit", "8bit"))
    assert (four.diff() <= 0).all()
    assert (eight < four).all()
    assert unknown_rate(NOISES["8bit"]) < unknown_rate(NOISES["4bit"]) < 0.5


def _penalised(changed: Tensor, drawn: Tensor, expected: Tensor) -> NDArray[np.float64]:
    """The same penalised fit by statsmodels: pseudo draws, and a penalty on the slope around 1."""
    counts, draws, before = (v.numpy() for v in (changed, drawn, expected))
    some = 0.5 * before * draws / (before * draws).sum()
    none = 0.5 * (1 - before) * draws / ((1 - before) * draws).sum()
    successes, trials = counts + some, draws + some + none

    def fit(slope: float) -> Any:
        offset = slope * logit(before)
        family = sm.families.Binomial()
        trialled = np.c_[successes, trials - successes]
        return sm.GLM(trialled, np.ones((len(counts), 1)), family=family, offset=offset).fit()

    def loss(slope: float) -> float:
        return float(((slope - 1) / SLOPE_ERROR) ** 2 / 2 - fit(slope).llf)

    slope = optimize.minimize_scalar(loss, bounds=(-3, 5), method="bounded").x
    curve: NDArray[np.float64] = stats.logistic.cdf(fit(slope).params[0] + slope * logit(before))
    return curve


@pytest.mark.parametrize("counts", [(7.0, 3.0, 1.0), (2.0, 3.0, 2.0)])
def test_rates_are_mixed_with_a_fitted_curve(counts: tuple[float, ...]) -> None:
    """The curve by a search over slopes with statsmodels, then three draws at its rate."""
    changed, drawn, expected = _float(*counts), _float(12, 15, 20), _float(0.4, 0.15, 0.03)
    curve = _penalised(changed, drawn, expected)
    mixed = (changed.numpy() + STRENGTH * curve) / (drawn.numpy() + STRENGTH)
    found = smoothed_rates(changed=changed, drawn=drawn, expected=expected)
    np.testing.assert_allclose(found, mixed, rtol=2e-3)


def test_no_change_is_not_taken_for_none() -> None:
    """Zero of all draws leaves rates above 0 that fall as expected; all of them, below 1."""
    drawn, expected = _float(10, 10, 10), _float(0.5, 0.1, 0.01)
    none = smoothed_rates(changed=torch.zeros(3), drawn=drawn, expected=expected)
    assert (none > 0).all()
    assert (none.diff() < 0).all()
    assert none.max() < 0.1
    every = smoothed_rates(changed=drawn, drawn=drawn, expected=expected)
    assert (every < 1).all()
    assert every.min() > 0.8


def test_many_draws_speak_for_themselves() -> None:
    """With thousands of draws a stratum's own share is what is left, whatever was expected."""
    drawn = _float(4000, 4000)
    found = smoothed_rates(changed=_float(40, 2000), drawn=drawn, expected=_float(0.5, 0.01))
    assert found.tolist() == pytest.approx([0.01, 0.5], abs=1e-3)


def test_what_cannot_change_stays_as_counted() -> None:
    """An expected rate of 0: no draws are mixed in, and the fit goes without that stratum."""
    drawn = _float(10, 10, 10)
    found = smoothed_rates(changed=_float(4, 0, 1), drawn=drawn, expected=_float(0.4, 0, 0.1))
    alone = smoothed_rates(changed=_float(4, 1), drawn=drawn[:2], expected=_float(0.4, 0.1))
    assert found.tolist() == pytest.approx([float(alone[0]), 0, float(alone[1])])
    nothing = smoothed_rates(changed=_float(0), drawn=_float(5), expected=_float(0))
    assert nothing.tolist() == [0]
