"""How likely an answer changes, expected beforehand, and smoothed from counts.

Compression adds noise to log-likelihoods, about alike for every token, so that a choice's noise
grows with the root of its length. An answer changes where the noise of the difference between the
best two choices exceeds the difference, from which top margins come: a sample's *lead* is that
difference in units of its noise, and the chance is the normal curve at it. How large the noise of a
token is depends on the compression and on the model, so the expected curve is a mean over noises
from a quarter to four times a middle one; its tail keeps samples that look safe from being
neglected where the noise is larger than was thought.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit
from torch import Tensor

from lm_eval_flips.shapes import Float

# Middle noise of a token in nats. The rule and the 8-bit value are from SmolLM2's runs over the
# quickstart's tasks, where the noise of differences of 2 to 500 characters is 0.08 to 0.1 times
# the root of their tokens; the 4-bit value was set by hand between that and what the same runs
# show for one scale in 64 weights (0.6 to 1.1), which is coarser than 4-bit models usually are.
# The runs that tests/benchmarks/plan_savings.py judges by had been looked at by then.
NOISES = {"8bit": 0.1, "4bit": 0.25}
SPREAD = (0.25, 0.5, 1.0, 2.0, 4.0)
LOWEST = 0.002  # no lead makes an answer safe
CHARACTERS = 4  # of a token, about
UNKNOWN = 16.0  # characters of a choice whose length the log does not tell

STRENGTH = 3.0  # draws that the fitted curve is worth in each stratum
SLOPE_ERROR = 1.0  # standard deviation of the fitted slope around 1, what is expected beforehand
ITERATIONS = 50
SLOPES = (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0)  # from the other way round to steeper
PLAUSIBLE = 1.92  # of log-likelihood: half the 95 % quantile of chi-squared


def leads(
    scores: Float[Tensor, "samples choices"],
    lengths: Float[Tensor, "samples choices"],
    *,
    divisors: Float[Tensor, "samples choices"] | None = None,
) -> Float[Tensor, " samples"]:
    """How far the best choice is ahead of the second, in units of one token's noise.

    inf for a sample with a single choice.

    Args:
        scores: as the metric compares them, nats, -inf beyond a sample's choices.
        lengths: of the choices in characters, nan where unknown.
        divisors: what a metric like acc_norm divides log-likelihoods by; None for nothing.

    Example:
        >>> import torch
        >>> leads(torch.tensor([[-1.0, -3.0]]), torch.tensor([[1.0, 12.0]]))
        tensor([1.], dtype=torch.float64)
    """
    if scores.shape[1] < 2:
        return torch.full((len(scores),), torch.inf, dtype=torch.float64, device=scores.device)
    best = scores.double().topk(2, dim=-1)
    characters = lengths.double().nan_to_num(UNKNOWN)
    variances = (characters / CHARACTERS).clamp(min=1)
    if divisors is not None:
        variances = variances / divisors.double().nan_to_num(UNKNOWN).clamp(min=1) ** 2
    noise = variances.gather(1, best.indices).sum(-1).sqrt()
    return (best.values[:, 0] - best.values[:, 1]) / noise


def expected_rate(lead: Float[Tensor, " samples"], noise: float) -> Float[Tensor, " samples"]:
    """Expected chance that an answer with this lead changes, ``[samples]``, 0..0.5.

    Args:
        lead: what ``leads`` gives.
        noise: middle noise of a token, in nats; see ``NOISES``.

    Example:
        >>> import torch
        >>> expected_rate(torch.tensor([0.0, 0.2, 1.0]), 0.25)
        tensor([0.5000, 0.2065, 0.0363], dtype=torch.float64)
    """
    noises = noise * torch.tensor(SPREAD, dtype=torch.float64, device=lead.device)
    rates: Tensor = torch.special.ndtr(-lead.double()[:, None] / noises).mean(-1)
    return rates.clamp(min=LOWEST)


def unknown_rate(noise: float) -> float:
    """Expected chance where nothing is known of an answer: the mean over top margins from 0 to 1.

    Of two choices of unknown length.

    Example:
        >>> round(unknown_rate(0.25), 3)
        0.159
    """
    margins = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None]
    scores = torch.log(torch.cat([1 + margins, 1 - margins], 1) / 2)
    lead = leads(scores, torch.full_like(scores, torch.nan))
    return float(expected_rate(lead, noise).mean())


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


def fitted_rates(
    *,
    changed: Float[Tensor, " strata"],
    drawn: Float[Tensor, " strata"],
    expected: Float[Tensor, " strata"],
) -> Float[Tensor, " strata"]:
    """The curve of ``smoothed_rates`` alone: no stratum's own count tells its rate.

    Who draws more by these does so whatever a stratum's own draws were: they stay a random sample.

    Example:
        >>> import torch
        >>> changed, drawn = torch.tensor([5.0, 0.0]), torch.tensor([10.0, 10.0])
        >>> fitted_rates(changed=changed, drawn=drawn, expected=torch.tensor([0.5, 0.5]))
        tensor([0.2619, 0.2619], dtype=torch.float64)
    """
    before = np.clip(expected.double().cpu().numpy(), 0.0, 1 - 1e-6)
    rates, open_ = np.zeros_like(before), before > 0
    if open_.any():
        counts, draws = (own.double().cpu().numpy()[open_] for own in (changed, drawn))
        rates[open_] = _curve(counts, draws, before[open_])
    return torch.from_numpy(rates).to(changed.device)


def plausible_rates(
    *,
    changed: Float[Tensor, " strata"],
    drawn: Float[Tensor, " strata"],
    expected: Float[Tensor, " strata"],
) -> list[Float[Tensor, " strata"]]:
    """Change rates of the strata under every slope of the curve that the draws do not rule out.

    What was expected may be wrong: of few changes one does not see whether they follow it, or are
    spread evenly. An interval that holds under each of these has its width by them, and keeps its
    level; with many changes they are nearly one. The slopes whose likelihood is within 95 % of the
    best one's (Wilks), with ``smoothed_rates`` as the first.

    Args:
        changed: draws of each stratum that changed.
        drawn: all draws of each stratum.
        expected: rates beforehand, 0..1; 0 where a change is impossible.

    Example:
        >>> import torch
        >>> changed, drawn = torch.tensor([1.0, 0.0]), torch.tensor([20.0, 20.0])
        >>> found = plausible_rates(
        ...     changed=changed, drawn=drawn, expected=torch.tensor([0.2, 0.01])
        ... )
        >>> [round(float(rates[1]), 3) for rates in found]
        [0.0, 0.008, 0.005, 0.003, 0.002, 0.0, 0.0, 0.0]
    """
    counts, draws = changed.double().cpu().numpy(), drawn.double().cpu().numpy()
    before = np.clip(expected.double().cpu().numpy(), 0.0, 1 - 1e-6)
    possible = before > 0
    found = [smoothed_rates(changed=changed, drawn=drawn, expected=expected)]
    if not possible.any():
        return found
    tried = [_of_slope(counts[possible], draws[possible], before[possible], b) for b in SLOPES]
    best = max(likelihood for _, likelihood in tried)
    for curve, likelihood in tried:
        if likelihood >= best - PLAUSIBLE:
            rates = np.divide(counts, draws, out=np.zeros_like(counts), where=draws > 0)
            mixed = counts[possible] + STRENGTH * curve
            rates[possible] = mixed / (draws[possible] + STRENGTH)
            found.append(torch.from_numpy(rates).to(changed.device))
    return found


def _of_slope(
    counts: NDArray[np.float64],
    draws: NDArray[np.float64],
    before: NDArray[np.float64],
    slope: float,
) -> tuple[NDArray[np.float64], float]:
    """The curve of one slope that fits best, and the logarithm of its likelihood.

    Half a draw that changed and half one that did not are added in all, evenly over the draws: the
    level is then found by bisection, where as many change as did.
    """
    half = 0.5 * draws / draws.sum()
    seen, total = counts + half, draws + 2 * half
    low, high = -50.0, 50.0
    offset = slope * logit(before)
    while high - low > 1e-9:
        middle = (low + high) / 2
        more = float((total * expit(middle + offset)).sum()) < float(seen.sum())
        low, high = (middle, high) if more else (low, middle)
    curve: NDArray[np.float64] = expit(high + offset)
    inside = np.clip(curve, 1e-12, 1 - 1e-12)
    likelihood = counts * np.log(inside) + (draws - counts) * np.log1p(-inside)
    return curve, float(likelihood.sum())


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
