"""How sure a rule is kept, or broken, after each document of an order.

Each draw is held against the threshold by betting (``measures.betting``); who has drawn all numbers
that there are knows their mean, and nothing is left to chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lm_eval_flips.measures.betting import Draws, p_at_least, p_at_most
from lm_eval_flips.shapes import Bool, Float, Int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bounded:
    """Numbers that a rule asks for, one a sample.

    Args:
        values: ``[samples]``, each from ``low`` to ``high``.
        asked: ``[samples]``, which samples the rule speaks of at all.
        cut: nats at which values are cut; None where they are not.
    """

    values: Float[Tensor, " samples"]
    asked: Bool[Tensor, " samples"]
    low: float
    high: float
    cut: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Course:
    """A rule's draws, and how sure it is after each document of the order that it is kept, or not.

    ``kept`` and ``broken`` are anytime-valid p that it is not, ``[count]``: small where it is.
    ``after`` is the number of draws after each document.
    """

    draws: Draws
    after: Int[Tensor, " count"]
    kept: Float[Tensor, " count"]
    broken: Float[Tensor, " count"]


def course(
    numbers: Sequence[Bounded],
    places: Sequence[Int[Tensor, " _"]],
    *,
    count: int,
    whole: int,
    threshold: float,
    two_sided: bool = False,
) -> Course:
    """Hold numbers against a threshold, document by document.

    Args:
        numbers: of each task, all with the same bounds.
        places: where each of a task's samples stands in the order.
        count: documents that were drawn.
        whole: numbers that there are.
        threshold: that their mean is at most.
        two_sided: it is also to be at least the negative threshold.
    """
    asked = [own.asked.cpu() for own in numbers]
    place = torch.cat([all_[kept] for all_, kept in zip(places, asked, strict=True)])
    values = torch.cat([own.values.cpu()[kept] for own, kept in zip(numbers, asked, strict=True)])
    by_place = place.argsort()
    draws = Draws(values=values[by_place], whole=whole, low=numbers[0].low, high=numbers[0].high)
    after = torch.searchsorted(place[by_place], torch.arange(count), right=True)
    kept, broken = _evidence(draws, threshold, two_sided=two_sided)
    return Course(draws=draws, after=after, kept=_at(kept, after), broken=_at(broken, after))


def _evidence(draws: Draws, threshold: float, *, two_sided: bool) -> tuple[Tensor, Tensor]:
    """After each draw, p that the rule is broken, and p that it is kept."""
    kept = p_at_least(draws, threshold)
    broken = p_at_most(draws, threshold)
    mean = abs(draws.mean) if two_sided else draws.mean
    if two_sided:
        kept = torch.maximum(kept, p_at_most(draws, -threshold))
        broken = (2 * torch.minimum(broken, p_at_least(draws, -threshold))).clamp(max=1.0)
    if len(draws.values) == draws.whole > 0:  # nothing is left to chance
        holds = mean <= threshold + 1e-12
        kept[-1], broken[-1] = (0.0, 1.0) if holds else (1.0, 0.0)
    return kept, broken


def _at(p: Tensor, after: Tensor) -> Tensor:
    """After each document of the order; 1 before the first draw."""
    return torch.cat([torch.ones(1, dtype=torch.float64), p.cpu()])[after]
