"""Means and shares of all documents from a stratified random sample of them, with intervals.

What is estimated is what the full run over these documents would have shown: a stratum that was
drawn whole adds no error. Draws are random within a stratum: nothing is assumed of the answers.

Sources: Cochran, Sampling Techniques (3rd ed. 1977), sections 5.3 and 5.4 (mean, variance,
Satterthwaite's degrees of freedom). Few draws of a stratum may show no spread where there is some.
That must not count as none: rates of changes are mixed with a smooth curve (``change_rates``), and
other variances with their mean over strata. Intervals of shares are Wilson's, generalised: the
shares within z standard errors of the estimate, by the errors that the share itself would bring,
every stratum's odds multiplied alike; never narrower than the draws show without any curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, hypot, inf, sqrt

import torch
from scipy.special import expit, logit
from torch import Tensor

from lm_eval_flips.measures.sampling.change_rates import plausible_rates
from lm_eval_flips.measures.sampling.design import Design
from lm_eval_flips.measures.shares import share_interval as wilson_interval
from lm_eval_flips.measures.significance import (
    NO_INTERVAL,
    Interval,
    mean_interval,
    normal_quantile,
    t_quantile,
)
from lm_eval_flips.shapes import Bool, Float, Int

STRENGTH = 1.0  # draws that the mean variance is worth in each stratum
FARTHEST = 40.0  # log-odds; beyond lies a share of 0 or 1


def standard_error(
    values: Float[Tensor, " samples"], design: Design, *, strength: float = STRENGTH
) -> tuple[float, int]:
    """Standard error of the estimated mean, and its degrees of freedom (Satterthwaite's).

    Args:
        values: one number a sample.
        design: how the samples were drawn.
        strength: how many draws the strata's mean variance is worth in each; 0 for the textbook's
            error.

    Example:
        >>> import torch
        >>> design = Design(
        ...     sizes=torch.tensor([50]), drawn=torch.tensor([5]), stratum=torch.zeros(5).long()
        ... )
        >>> standard_error(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), design)
        (0.6708..., 4)
    """
    own, freedom = design.variances(values), (design.drawn - 1).double()
    open_ = design.drawn < design.sizes
    if open_.any():
        common = (design.shares * own)[open_].sum() / design.shares[open_].sum()
        own = (freedom * own + strength * common) / (freedom + strength).clamp(min=1e-12)
    parts = design.factors * own
    variance = float(parts.sum())
    if variance <= 0:
        return 0.0, max(1, int(freedom.sum()))
    satterthwaite = variance**2 / float((parts**2 / freedom.clamp(min=1)).sum())
    return sqrt(variance), max(1, int(satterthwaite))


def stratified_interval(
    values: Float[Tensor, " samples"],
    design: Design,
    *,
    positive: bool = False,
    level: float = 0.95,
) -> Interval:
    """Interval of the mean over all documents, by Student's t.

    Args:
        values: one number a sample.
        design: how the samples were drawn.
        positive: values are distances, which are skewed: the interval is one of the logarithm.
        level: how often intervals hold the mean.
    """
    mean, (error, freedom) = design.mean(values), standard_error(values, design)
    low, high = mean_interval(mean, error, freedom, level=level)
    if not positive or mean <= 0:
        return Interval(low, high)
    factor = exp((high - mean) / mean)
    return Interval(mean / factor, mean * factor)


def stratified_share_interval(
    changed: Bool[Tensor, " samples"],
    design: Design,
    *,
    expected: Float[Tensor, " strata"],
    level: float = 0.95,
) -> Interval:
    """Interval of the share of all documents that changed.

    Args:
        changed: which samples count.
        design: how the samples were drawn.
        expected: rate of each stratum that was expected beforehand; only ratios matter.
        level: how often intervals hold the share.
    """
    return _union(_ends(changed, design, expected, level=level))


def stratified_difference_interval(
    lost: Bool[Tensor, " samples"],
    won: Bool[Tensor, " samples"],
    design: Design,
    *,
    expected_lost: Float[Tensor, " strata"],
    expected_won: Float[Tensor, " strata"],
    level: float = 0.95,
) -> Interval:
    """Interval of the share won minus the share lost, of all documents.

    Args:
        lost: samples that count -1.
        won: samples that count +1.
        design: how the samples were drawn.
        expected_lost: rate of each stratum that was expected beforehand; only ratios matter.
        expected_won: the same of what is won.
        level: how often intervals hold the difference.
    """
    shares = [design.mean(marks.double()) for marks in (lost, won)]
    minus, plus = (
        _union(_ends(marks, design, expected, level=level))
        for marks, expected in ((lost, expected_lost), (won, expected_won))
    )
    # MOVER, with the errors of the two shares as good as uncorrelated where both are small
    down = shares[1] - plus.low, minus.high - shares[0]
    up = plus.high - shares[1], shares[0] - minus.low
    change = shares[1] - shares[0]
    low, high = change - hypot(*down), change + hypot(*up)
    return Interval(max(-1.0, low), min(1.0, high))


def _ends(marks: Tensor, design: Design, expected: Tensor, *, level: float) -> list[Interval]:
    """The share's interval under every plausible course of the strata's rates."""
    values, n = marks.double(), len(marks)
    share, (error, freedom) = design.mean(values), standard_error(values, design, strength=0.0)
    seen = [wilson_interval(share, n, error, freedom, level=level, fractions=True)] if error else []
    return seen + [
        share_interval(
            share,
            sizes=design.sizes,
            drawn=design.drawn,
            rates=rates,
            freedom=_freedom(design, rates),
            level=level,
        )
        for rates in _rates(marks, design, expected)
    ]


def _freedom(design: Design, rates: Tensor) -> float:
    """Satterthwaite's degrees of freedom of the error by these rates: few where few strata rule."""
    parts = design.factors * rates * (1 - rates)
    total = float(parts.sum())
    within = float((parts**2 / (design.drawn - 1).clamp(min=1)).sum())
    return total**2 / within if total > 0 else inf


def _union(intervals: Sequence[Interval]) -> Interval:
    return Interval(min(own.low for own in intervals), max(own.high for own in intervals))


def _rates(
    changed: Bool[Tensor, " samples"], design: Design, expected: Float[Tensor, " strata"]
) -> list[Float[Tensor, " strata"]]:
    """Every plausible course of the strata's rates; as counted where one was drawn whole."""
    counts, drawn = design.sums(changed.double()), design.drawn.double()
    whole = design.drawn == design.sizes
    return [
        torch.where(whole, counts / drawn, rates)
        for rates in plausible_rates(changed=counts, drawn=drawn, expected=expected)
    ]


def _finite(sizes: Int[Tensor, " strata"]) -> Float[Tensor, " strata"]:
    """What makes a variance over a stratum's documents one with divisor n - 1."""
    return sizes.double() / (sizes - 1).clamp(min=1)


def share_interval(
    share: float,
    *,
    sizes: Int[Tensor, " strata"],
    drawn: Int[Tensor, " strata"],
    rates: Float[Tensor, " strata"],
    freedom: float = inf,
    level: float = 0.95,
) -> Interval:
    """Interval of a share that was estimated from a stratified sample.

    With one stratum, few draws of many documents, this is Wilson's interval.

    Args:
        share: the estimate.
        sizes: documents of each stratum.
        drawn: draws of each stratum.
        rates: share within each stratum; as counted where it was drawn whole.
        freedom: degrees of freedom of the error, where the drawn samples tell it.
        level: how often intervals hold the share.

    Example:
        >>> import torch
        >>> few, many = torch.tensor([100]), torch.tensor([10**9])
        >>> share_interval(0.05, sizes=many, drawn=few, rates=torch.tensor([0.07]).double())
        Interval(low=0.0215..., high=0.1117...)
    """
    if not len(sizes):
        return NO_INTERVAL
    whole = drawn == sizes
    shares = sizes.double() / int(sizes.sum())
    if bool(whole.all()):
        return Interval(share, share)
    factors = shares**2 * (1 - drawn.double() / sizes) / drawn * _finite(sizes)
    z = normal_quantile(level) if freedom == inf else t_quantile(level, freedom)
    high = _upper_end(share, shares, rates.double(), factors, whole, z)
    # as much as the others may be at least
    low = 1 - _upper_end(1 - share, shares, 1 - rates.double(), factors, whole, z)
    return Interval(max(0.0, min(low, share)), min(1.0, max(high, share)))


def _upper_end(
    share: float, shares: Tensor, rates: Tensor, factors: Tensor, whole: Tensor, z: float
) -> float:
    """The largest share that an estimate lies no more than z of its standard errors below."""
    known = float((shares * rates)[whole].sum())
    weights, parts = (own[~whole].cpu().numpy() for own in (shares, factors))
    odds = logit(rates[~whole].cpu().numpy())

    def at(shift: float) -> tuple[float, float]:
        """The share, and z standard errors, where all odds are multiplied by exp(shift)."""
        moved = expit(odds + shift)
        return known + float(weights @ moved), z * sqrt(float(parts @ (moved * (1 - moved))))

    low, high = -FARTHEST, FARTHEST
    while high - low > 1e-10:
        middle = (low + high) / 2
        reached, error = at(middle)
        low, high = (middle, high) if reached - error < share else (low, middle)
    return at(high)[0]
