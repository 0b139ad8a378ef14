"""Do two runs' log-likelihoods belong to the same requests, in the same unit?

Between a model and its compression, each answer is nearest to its own request's, and the scales are
alike. A backend that leaves an answer out, mixes them up or counts in bits breaks this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import torch
from torch import Tensor

from lm_eval_flips.measures.plausibility import own_choices
from lm_eval_flips.shapes import Bool, Float, Int

FEW = 30  # requests, below which two runs are not told to be out of step
LONG = 1 << 16  # requests, from which on parts are counted one by one, for less memory
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
    same = (baseline == compressed).all(-1)
    if not same.any():
        return same
    coarse = (baseline == baseline.bfloat16()) | (baseline == baseline.half())
    return same & (~coarse).any(-1)


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
    bounds = [len(baseline) * part // PARTS for part in range(PARTS)] + [len(baseline)]
    counted = _counted(baseline, compressed, bounds)
    found = [
        step
        for place, start in enumerate(bounds[:-1])
        for lag, parts in zip((1, -1), counted, strict=True)
        if (
            step := _step(
                Shifted(baseline[start:], compressed[start:], lag),
                start=start,
                # of all parts from here on
                counts=[sum(column) for column in zip(*parts[place:], strict=True)],
            )
        )
    ]
    return max(found, key=lambda step: step.n * (step.share - 0.5), default=None)


class Shifted(NamedTuple):
    """Two runs' requests, and by how many the second one's are taken to be late."""

    baseline: Tensor
    compressed: Tensor
    lag: int

    def distances(self) -> tuple[Tensor, Tensor]:
        """How far each answer is from its own request's, and from the one beside it.

        Of all but the first and the last, which have nothing beside them.
        """
        ours, theirs = self.baseline[1:-1], self.compressed
        beside = theirs[2:] if self.lag > 0 else theirs[:-2]
        return (theirs[1:-1] - ours).abs(), (beside - ours).abs()


def _counted(
    baseline: Tensor, compressed: Tensor, bounds: Sequence[int]
) -> tuple[list[list[int]], list[list[int]]]:
    """Of both lags, part by part: requests that differ by it, and that are nearer so.

    A request counts in the part in which it has one before it, so that a part and all that follow
    count what they would by themselves.
    """
    # of short runs all parts at once
    steps = 1 if len(baseline) > LONG else PARTS
    sums = []
    for first in range(0, PARTS, steps):
        start, end = bounds[first], bounds[first + steps]
        rows = slice(start, min(end + 2, len(baseline)))
        marks = []
        for lag in (1, -1):
            logged, moved = Shifted(baseline[rows], compressed[rows], lag).distances()
            marks += [logged != moved, moved < logged]
        whole = torch.stack(marks)
        for part in range(first, first + steps):
            sums.append(whole[:, bounds[part] - start : bounds[part + 1] - start].sum(1))
    counts = torch.stack(sums).tolist()
    return [of_part[:2] for of_part in counts], [of_part[2:] for of_part in counts]


def _step(runs: Shifted, *, start: int, counts: Sequence[int]) -> Step | None:
    if len(runs.baseline) <= FEW:
        return None
    n, nearer = counts
    if n < FEW:
        return None
    share = nearer / n
    if not (share - 0.5) * 2 * n**0.5 > 6:
        return None
    logged, moved = runs.distances()
    if float(moved.median()) >= float(logged.median()) / 2:
        return None
    return Step(lag=runs.lag, start=start, share=share, n=n)


def reordered(
    baseline: Float[Tensor, "n k"], compressed: Float[Tensor, "n k"]
) -> Bool[Tensor, " n"]:
    """Samples that hold the other run's log-likelihoods, in another order.

    Example:
        >>> ours, theirs = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-2.0, -1.0]])
        >>> reordered(ours, theirs).tolist()
        [True]
    """
    moved = (baseline != compressed).any(-1)
    # the same values have the same largest one, which is found sooner than their order
    moved &= baseline.amax(-1) == compressed.amax(-1)
    if not moved.any():
        return moved
    same = torch.eq(baseline.sort(-1).values, compressed.sort(-1).values).all(-1)
    return same & moved


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
