"""The mean of a finite set of numbers, judged while they are drawn: valid whenever one stops.

One bets on each draw before it is seen. If a hypothesis about the mean holds, no way to bet is
expected to win, so a wealth that has grown by 1/p is evidence against it at level p, at whatever
draw that is noticed (Ville's inequality). Draws come without replacement from the questions that
there are, and with each the mean of those left is known better (Waudby-Smith and Ramdas 2024, JRSS
B 86, 1-27: section 5 on draws without replacement, appendix B on a grid of bets).

The wealth is the mean over a grid of constant bets, as shares of the most that may be bet: what
bet is best depends on the numbers, and of a few one is near it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import Interval
from lm_eval_flips.shapes import Float

BETS = (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)  # shares of the largest bet that never loses all
STEPS = 32  # of the bisection for an interval's end: to a billionth of the range
ROUNDING = 1e-12  # of the range


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Numbers drawn at random, in their order, from a finite set.

    Args:
        values: ``[draws]``, each from ``low`` to ``high``.
        whole: how many numbers the set has.
        low: the least that a number can be.
        high: the most.

    Raises:
        ValueError: more draws than numbers, or a number out of range.
    """

    values: Float[Tensor, " draws"]
    whole: int
    low: float
    high: float

    def __post_init__(self) -> None:
        if len(self.values) > self.whole:
            raise ValueError(f"{len(self.values)} draws of a set of {self.whole}")
        if len(self.values) and not self.low <= float(self.values.min()):
            raise ValueError(f"a number is below {self.low}, or is none")
        if len(self.values) and not float(self.values.max()) <= self.high:
            raise ValueError(f"a number is above {self.high}")

    @property
    def mirrored(self) -> Draws:
        """The same with their sign turned, so that an upper bound is a lower one."""
        return Draws(values=-self.values, whole=self.whole, low=-self.high, high=-self.low)

    @property
    def mean(self) -> float:
        """Of what was drawn; nan of nothing."""
        return float(self.values.double().mean())


def p_at_least(draws: Draws, mean: float) -> Float[Tensor, " draws"]:
    """Anytime-valid p that the mean of the whole set is at least this, after each of the draws.

    Small where it is less. It never rises again: whoever looks after every draw errs no more often
    than who looks once.

    Returns:
        ``[draws]``; 0 from where the rest cannot bring the mean up again.

    Example:
        >>> quiet = Draws(values=torch.zeros(100), whole=1000, low=0.0, high=1.0)
        >>> p_at_least(quiet, 0.1)[[0, 49, 99]]
        tensor([9.5406e-01, 2.9205e-02, 2.2476e-04], dtype=torch.float64)
    """
    values = draws.values.double()
    drawn = torch.arange(len(values), dtype=torch.float64, device=values.device)
    before = values.cumsum(0) - values
    # what the mean of those left would be under the hypothesis
    open_mean = (draws.whole * mean - before) / (draws.whole - drawn)
    room = draws.high - open_mean
    edge = ROUNDING * (draws.high - draws.low)
    gain = torch.where(room > edge, (open_mean - values) / room.clamp(min=edge), 0.0)
    bets = torch.tensor(BETS, dtype=torch.float64, device=values.device)
    wealth = torch.log1p(bets[:, None] * gain).cumsum(1).logsumexp(0) - log(len(BETS))
    most = (before + values + (draws.whole - drawn - 1) * draws.high) / draws.whole
    refuted = (most < mean - edge).cummax(0).values
    p = (-wealth.cummax(0).values).exp().clamp(max=1.0)
    return torch.where(refuted, 0.0, p)


def p_at_most(draws: Draws, mean: float) -> Float[Tensor, " draws"]:
    """Anytime-valid p that the mean of the whole set is at most this; small where it is more.

    Example:
        >>> loud = Draws(values=torch.ones(20), whole=1000, low=0.0, high=1.0)
        >>> bool(p_at_most(loud, 0.1)[-1] < 1e-10)
        True
    """
    return p_at_least(draws.mirrored, -mean)


def bounds(draws: Draws, *, level: float = 0.95) -> Interval:
    """A confidence sequence's interval of the whole set's mean: it may be read after every draw.

    All intervals of one sequence together hold the mean in ``level`` of all orders; each end by
    itself errs in half of the rest.

    Example:
        >>> few = Draws(values=torch.tensor([0.0, 1.0] * 10), whole=40, low=0.0, high=1.0)
        >>> low, high = bounds(few)
        >>> 0.25 < low < 0.5 < high < 0.75
        True
    """
    alpha = (1 - level) / 2
    return Interval(-_upper(draws.mirrored, alpha), _upper(draws, alpha))


def least_draws(draws: Draws, *, most: float, p: float) -> int:
    """As many draws as it takes at least to show that a mean is below ``most``.

    Args:
        draws: the numbers in the order that shows it first: the smallest of all, again and again.
        most: the mean.
        p: at which it counts as shown.

    Returns:
        The number of draws; all of the set where not even those show it.

    Example:
        >>> best = Draws(values=torch.zeros(2961), whole=2961, low=0.0, high=1.0)
        >>> least_draws(best, most=0.1, p=0.025)
        53
    """
    shown = p_at_least(draws, most) <= p
    return int(shown.double().argmax()) + 1 if bool(shown.any()) else draws.whole


def _upper(draws: Draws, alpha: float) -> float:
    """The largest mean that is not refuted: p rises with the mean that is asked about."""
    low, high = draws.low, draws.high
    if not len(draws.values):
        return high
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _refuted(draws, middle, alpha) else (middle, high)
    return high


def _refuted(draws: Draws, mean: float, alpha: float) -> bool:
    return float(p_at_least(draws, mean)[-1]) <= alpha
