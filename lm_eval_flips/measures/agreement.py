"""Do two runs' log-likelihoods belong to the same requests, in the same unit?

Between a model and its compression, each answer is nearest to its own request's, and the scales are
alike. A backend that leaves an answer out, mixes them up or counts in bits breaks this.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from lm_eval_flips.measures.plausibility import own_choices
from lm_eval_flips.shapes import Bool, Float, Int

FEW = 30  # requests, below which two runs are not told to be out of step
PARTS = 8  # an answer may go missing anywhere: the run's last parts are looked at one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A run whose answers belong to the ``lag``-th next request, from request ``start`` on.

    ``share`` of the ``n`` requests there fit better so than as they were logged.
    """

    lag: int
    start: int
    share: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Relation:
    """How two runs' log-likelihoods relate over ``n`` requests.

    ``ratio`` is the compressed run's median over the baseline's; ``slope`` that of the line through
    the origin, ``residual`` the root mean square beside it as a share of that of the change.
    ``correlation`` is Pearson's; ``within`` the same of each choice's distance from its sample's
    mean. All are nan where they are undefined.
    """

    n: int
    ratio: float
    slope: float
    residual: float
    correlation: float
    within: float


def repeated(
    baseline: Float[Tensor, "n k"], compressed: Float[Tensor, "n k"]
) -> Bool[Tensor, " n"]:
    """Samples whose log-likelihoods agree to the last digit, as a shared cache's do.

    Values that a bfloat16 or a float16 holds do not count: two models share them by chance.

    Example:
        >>> before = torch.tensor([[-1.2345, -2.3456], [-1.5, -2.0], [-1.2345, -2.3456]])
        >>> after = torch.tensor([[-1.2345, -2.3456], [-1.5, -2.0], [-1.2346, -2.3456]])
        >>> repeated(before, after).tolist()
        [True, False, False]
    """
    coarse = (baseline == baseline.bfloat16()) | (baseline == baseline.half())
    return (baseline == compressed).all(-1) & (~coarse).any(-1)


def out_of_step(baseline: Float[Tensor, " n"], compressed: Float[Tensor, " n"]) -> Step | None:
    """Whether the compressed run's answers belong to the request before or after; None if not.

    An answer that a backend leaves out shifts those that follow. Nearer the baseline's than its
    own: a sign test with six standard errors, and a median distance of less than half.

    Args:
        baseline: the log-likelihoods of all requests, in their order.
        compressed: those of the same requests.

    Example:
        >>> asked = torch.randn(100, generator=torch.Generator().manual_seed(0))
        >>> out_of_step(asked, asked.roll(1)).lag
        1
        >>> out_of_step(asked, asked + 0.1) is None
        True
    """
    found = [
        step
        for part in range(PARTS)
        for lag in (1, -1)
        if (step := _step(baseline, compressed, start=len(baseline) * part // PARTS, lag=lag))
    ]
    return max(found, key=lambda step: step.n * (step.share - 0.5), default=None)


def _step(baseline: Tensor, compressed: Tensor, *, start: int, lag: int) -> Step | None:
    ours, theirs = baseline[start:], compressed[start:]
    if len(ours) <= FEW:
        return None
    inner = slice(1, len(ours) - 1)
    logged = (theirs - ours)[inner].abs()
    moved = (theirs.roll(-lag) - ours)[inner].abs()
    differ = logged != moved
    n = int(differ.sum())
    if n < FEW:
        return None
    share = float((moved < logged)[differ].double().mean())
    sure = (share - 0.5) * 2 * n**0.5 > 6
    if not sure or float(moved.median()) >= float(logged.median()) / 2:
        return None
    return Step(lag=lag, start=start, share=share, n=n)


def reordered(
    baseline: Float[Tensor, "n k"], compressed: Float[Tensor, "n k"]
) -> Bool[Tensor, " n"]:
    """Samples that hold the other run's log-likelihoods, in another order.

    Example:
        >>> ours, theirs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-2.0, -1.0]])
        >>> reordered(ours, theirs).tolist()
        [True]
    """
    same = torch.eq(baseline.sort(-1).values, compressed.sort(-1).values).all(-1)
    return same & (baseline != compressed).any(-1)


def relation(
    baseline: Float[Tensor, "n k"], compressed: Float[Tensor, "n k"], choices: Int[Tensor, " n"]
) -> Relation:
    """Hold two runs' log-likelihoods against each other; infinite ones are left out.

    Example:
        >>> nats = -torch.rand(40, 4, generator=torch.Generator().manual_seed(0))
        >>> found = relation(nats, nats / 0.6931, torch.full((40,), 4))
        >>> round(found.slope, 2), round(found.residual, 2)
        (1.44, 0.0)
    """
    own = own_choices(choices, baseline.shape[1]) & baseline.isfinite() & compressed.isfinite()
    ours, theirs = baseline[own], compressed[own]
    if not len(ours):
        return Relation(n=0, ratio=nan, slope=nan, residual=nan, correlation=nan, within=nan)
    slope = (ours * theirs).sum() / ours.square().sum()
    change = (theirs - ours).square().mean().sqrt()
    within = own & (own.sum(-1) > 1)[:, None]
    return Relation(
        n=len(ours),
        ratio=float(theirs.median() / ours.median()),
        slope=float(slope),
        residual=float((theirs - slope * ours).square().mean().sqrt() / change),
        correlation=_pearson(ours, theirs),
        within=_pearson(_centred(baseline, own)[within], _centred(compressed, own)[within]),
    )


def _centred(values: Tensor, own: Tensor) -> Tensor:
    kept = values.masked_fill(~own, 0.0)
    return kept - (kept.sum(-1) / own.sum(-1).clamp(min=1))[:, None]


def _pearson(left: Tensor, right: Tensor) -> float:
    if len(left) < 2:
        return nan
    ours, theirs = left - left.mean(), right - right.mean()
    return float((ours * theirs).sum() / (ours.norm() * theirs.norm()))
