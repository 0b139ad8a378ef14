"""How likely an answer changes at a top margin: expected beforehand, and smoothed from counts.

Compression adds noise to log-likelihoods. An answer changes where the noise of the difference
between the best two choices exceeds the difference, which for two choices is
``2 artanh(top margin)``: that gives the normal curve below. How large the noise is depends on the
compression, the model and the length of the choices, so the expected curve is a mean over noises
from a quarter to four times a middle one; its tail keeps samples that are sure from being neglected
where the noise is larger than was thought.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor

from lm_eval_flips.shapes import Float

# Middle noise, in nats, set by hand: over margins that are spread evenly the curve's mean is 6 %
# and 14 %, somewhat above the flips that arXiv 2407.09141 found at 8 bits (2.5 to 4.2 %) and at
# 4 bits (5.7 to 10.9 %). SmolLM2's 8-bit run had been looked at before, so that what
# plan_savings.py measures on it is not quite blind.
NOISES = {"8bit": 0.2, "4bit": 0.6}
SPREAD = (0.25, 0.5, 1.0, 2.0, 4.0)
LOWEST = 0.002  # no margin makes an answer safe

STRENGTH = 3.0  # draws that the fitted curve is worth in each stratum
SLOPE_ERROR = 1.0  # standard deviation of the fitted slope around 1, what is expected beforehand
ITERATIONS = 50


def expected_rate(margin: Float[Tensor, " samples"], noise: float) -> Float[Tensor, " samples"]:
    """Expected chance that an answer of this top margin changes, ``[samples]``, 0..0.5.

    Args:
        margin: the baseline's top margins, 0..1.
        noise: middle noise of the difference of two log-likelihoods, in nats; see ``NOISES``.

    Example:
        >>> import torch
        >>> expected_rate(torch.tensor([0.0, 0.2, 0.9]), 0.6)
        tensor([0.5000, 0.2284, 0.0234], dtype=torch.float64)
    """
    difference = 2 * torch.atanh(margin.double().clamp(0, 1 - 1e-12))
    noises = noise * torch.tensor(SPREAD, dtype=torch.float64, device=margin.device)
    rates: Tensor = torch.special.ndtr(-difference[:, None] / noises).mean(-1)
    return rates.clamp(min=LOWEST)


def smoothed_rates(
    *,
    changed: Float[Tensor, " strata"],
    drawn: Float[Tensor, " strata"],
    expected: Float[Tensor, " strata"],
) -> Float[Tensor, " strata"]:
    """Change rate of each stratum, from few draws and what was expected beforehand.

    No change among a stratum's few draws does not mean that there is none. Each stratum's count is
    mixed with three draws at the rate of a curve ``logit(rate) = a + b logit(expected)`` that is
    fitted to all strata (penalised maximum likelihood: half a draw that changed and half one that
    did not are added in all; b lies around 1 with a standard deviation of 1, and not below 0).

    Args:
        changed: draws of each stratum that changed.
        drawn: all draws of each stratum.
        expected: rates beforehand, 0..1; 0 where a change is impossible.

    Example:
        >>> import torch
        >>> changed, drawn = torch.tensor([5.0, 0.0]), torch.tensor([10.0, 10.0])
        >>> smoothed_rates(changed=changed, drawn=drawn, expected=torch.tensor([0.5, 0.01]))
        tensor([0.5027, 0.0011], dtype=torch.float64)
    """
    counts, draws = changed.double().cpu().numpy(), drawn.double().cpu().numpy()
    before = np.clip(expected.double().cpu().numpy(), 0.0, 1 - 1e-6)
    rates = np.divide(counts, draws, out=np.zeros_like(counts), where=draws > 0)
    open_ = before > 0
    if open_.any():
        curve = _curve(counts[open_], draws[open_], before[open_])
        mixed = counts[open_] + STRENGTH * curve
        rates[open_] = mixed / (draws[open_] + STRENGTH)
    return torch.from_numpy(rates).to(changed.device)


def _curve(
    counts: NDArray[np.float64], draws: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The fitted curve's rate in each stratum, by Newton's method."""
    half = [0.5 * part / part.sum() for part in (before * draws, (1 - before) * draws)]
    seen, draws = counts + half[0], draws + half[0] + half[1]
    features = np.stack([np.ones_like(before), logit(before)])
    pull = np.array([0.0, 1 / SLOPE_ERROR**2])
    point = np.array([0.0, 1.0])
    for _ in range(ITERATIONS):
        rates = expit(point @ features)
        gradient = features @ (seen - draws * rates) - pull * (point - 1)
        curvature = (features * (draws * rates * (1 - rates))) @ features.T + np.diag(pull)
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        point += step * min(1.0, 2 / np.abs(step).max(initial=1e-12))
        point[1] = max(point[1], 0.0)
        if np.abs(step).max() < 1e-9:
            break
    curve: NDArray[np.float64] = expit(point @ features)
    return curve
