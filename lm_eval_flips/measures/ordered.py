"""Numbers in order, sorted once for all that is read from their order."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import nan

import numpy as np
import torch
from scipy import special

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.shapes import Float


class Ordered:
    """Sorted numbers, nan last.

    Args:
        values: the numbers, in any order.

    Example:
        >>> few = Ordered(torch.tensor([4.0, 1.0, 2.0]))
        >>> few.quantiles([0.5, 0.75]), few.largest
        ([2.0, 3.0], 4.0)
    """

    def __init__(self, values: Float[torch.Tensor, " n"]) -> None:
        self.n = values.numel()
        # numpy's sort keeps no places, which torch's needs twice the memory for
        on_cpu = values.device.type == "cpu"
        self._values = torch.from_numpy(np.sort(values.numpy())) if on_cpu else values.sort().values

    def at(self, places: Sequence[int]) -> list[float]:
        """The numbers at these places from 0, read at once."""
        found: list[float] = self._values[list(places)].double().tolist()
        return found

    @property
    def largest(self) -> float:
        """The last one."""
        return self.at([self.n - 1])[0]

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The values below which these shares lie, interpolated linearly as numpy's are."""
        exact = [share * (self.n - 1) for share in shares]
        lower = list(map(int, exact))
        upper = [low + (place != low) for low, place in zip(lower, exact, strict=True)]
        ends = self.at([*lower, *upper])
        return [
            below if below == above else below + (above - below) * (place - low)
            for below, above, place, low in zip(
                ends[: len(lower)], ends[len(lower) :], exact, lower, strict=True
            )
        ]

    def interval(self, share: float, *, level: float = 0.95) -> Interval:
        """Interval of a quantile from two order statistics, as ``quantile_interval``."""
        if self.n == 0:
            return NO_INTERVAL
        low, high = _ranks(self.n, share, level)
        ends = self.at([max(low, 0), min(high, self.n - 1)])
        return Interval(ends[0] if low >= 0 else nan, ends[1] if high < self.n else nan)


def quantile_interval(
    values: Float[torch.Tensor, " samples"], share: float, *, level: float = 0.95
) -> Interval:
    """Distribution-free interval of a quantile: two order statistics, whose ranks are binomial.

    nan at an end that the samples are too few to bound, as for p99 of 50 samples.
    Source: Conover, Practical Nonparametric Statistics (1999), section 3.2.

    Example:
        >>> quantile_interval(torch.arange(100.0), 0.5)
        Interval(low=39.0, high=60.0)
    """
    return Ordered(values).interval(share, level=level)


# the tasks of many runs ask the same again and again
@lru_cache(maxsize=1 << 14)
def _ranks(n: int, share: float, level: float) -> tuple[int, int]:
    """The places from 0 of the two order statistics; -1 or n where there is none."""
    tail = (1 - level) / 2
    return _binomial_quantile(tail, n, share) - 1, _binomial_quantile(1 - tail, n, share)


def _binomial_quantile(below: float, n: int, share: float) -> int:
    """The smallest count whose probability of not being exceeded is at least ``below``."""
    count = max(0, int(special.bdtrik(below, n, share)))
    while count > 0 and special.bdtr(count - 1, n, share) >= below:
        count -= 1
    while special.bdtr(count, n, share) < below:
        count += 1
    return count
