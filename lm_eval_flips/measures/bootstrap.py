"""Bootstrap intervals of means and quantiles: clusters are drawn again, with replacement.

Means get the bootstrap-t interval (Efron and Tibshirani 1993, section 12.5), which follows the
skewness that distances have and Student's t does not; quantiles an expanded percentile interval.
Strata are drawn apart. Seeded, on the device of the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, floor, isfinite, isnan, isqrt, nan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval, normal_share, t_quantile
from lm_eval_flips.shapes import Float, Int

REPLICATES = 2_000
FEWEST = 20  # values in a tail that bound it; half as many bound the median
FEWEST_CLUSTERS = 10  # that these values are of
STEP = 1 << 24  # counts drawn at once
ROUNDING = 1e-12  # of squares, below which what is left of them is none

Stratum = tuple[Tensor, Tensor]  # values [items], cluster of each [items], numbered from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrapped:
    """Intervals of a mean, and of one quantile for each share that was asked for."""

    mean: Interval
    quantiles: tuple[Interval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How to draw: how many replicates, from which seed.

    Strata are values ``[items]`` and their clusters ``[items]``, numbered from 0; clusters are
    independent, the strata are fixed.
    """

    replicates: int = REPLICATES
    seed: int = 0

    def intervals(
        self, strata: Sequence[Stratum], shares: Sequence[float] = (), *, level: float = 0.95
    ) -> Bootstrapped:
        """Intervals of the mean of all values, and of the value below which each share lies.

        Bootstrap-t for the mean. For quantiles percentiles of the draws, farther out for few
        clusters as Student's t is than the normal (Hesterberg 2015, Am. Stat. 69, section 5.3).

        Args:
            strata: values and their clusters.
            shares: 0..1, one for each quantile.
            level: of the intervals, 0..1.

        Returns:
            nan for a stratum of fewer than two clusters; for the mean of values that are all alike,
            and at an end that too many draws of nothing but alike values leave open; for a quantile
            at an end with fewer than twenty values (ten at the median) or ten clusters beyond
            it, which do not bound it.

        Example:
            >>> values = torch.arange(1.0, 101.0).sqrt()
            >>> found = Bootstrap(replicates=1000).intervals([(values, torch.arange(100))], [0.5])
            >>> found.mean, found.quantiles
            (Interval(low=6.2..., high=7.1...), (Interval(low=6.3..., high=7.7...),))
        """
        every = [_Stratum(*_sorted(values, clusters)) for values, clusters in strata]
        if not every or any(own.groups < 2 for own in every):
            return Bootstrapped(mean=NO_INTERVAL, quantiles=(NO_INTERVAL,) * len(shares))
        means, quantiles = _Means(every), _Quantiles(every, shares)
        generator = torch.Generator(every[0].values.device).manual_seed(self.seed)
        step = max(1, STEP // sum(own.values.numel() for own in every))
        for first in range(0, self.replicates, step):
            size = min(step, self.replicates - first)
            counts = [own.draw(size, generator) for own in every]
            means.add(counts)
            quantiles.add(counts)
        return Bootstrapped(mean=means.interval(level), quantiles=quantiles.intervals(level))


def _sorted(values: Tensor, clusters: Tensor) -> tuple[Tensor, Tensor]:
    """A stratum in order of its values, where every item is a cluster; which saves a look-up."""
    if int(clusters.max()) + 1 < clusters.numel():
        return values.double(), clusters
    return values.double().sort().values, torch.arange(values.numel(), device=values.device)


class _Stratum:
    """A stratum's values, and how often each of its clusters is drawn."""

    def __init__(self, values: Float[Tensor, " items"], clusters: Int[Tensor, " items"]) -> None:
        self.values, self.clusters = values, clusters
        self.groups = int(clusters.max()) + 1

    def draw(self, replicates: int, generator: torch.Generator) -> Tensor:
        """How often each cluster is drawn, ``[replicates, clusters]``."""
        shape, device = (replicates, self.groups), self.values.device
        drawn = torch.randint(self.groups, shape, generator=generator, device=device)
        one = torch.ones(1, dtype=torch.float32, device=device)
        return torch.zeros(shape, dtype=torch.float32, device=device).scatter_add_(
            1, drawn, one.expand(shape)
        )


class _Means:
    """Each draw's mean and its cluster-robust variance, from sums over clusters."""

    def __init__(self, strata: Sequence[_Stratum]) -> None:
        self._strata = strata
        total = sum(own.values.numel() for own in strata)
        self._shares = [own.values.numel() / total for own in strata]
        # from here on: sums of squares far from 0 would lose their digits
        self._middles = [float(own.values.median()) for own in strata]
        self._products = [
            self._sums(own, own.values - middle)
            for own, middle in zip(strata, self._middles, strict=True)
        ]
        self._found: list[tuple[Tensor, Tensor]] = []

    @staticmethod
    def _sums(own: _Stratum, values: Tensor) -> Tensor:
        """Of each cluster what a draw's size, sum and squared residuals are added up from."""
        sizes = torch.zeros(own.groups, dtype=torch.float64, device=values.device)
        sums = torch.zeros_like(sizes).index_add_(0, own.clusters, values)
        sizes.index_add_(0, own.clusters, torch.ones_like(values))
        return torch.stack([sizes, sums, sums * sums, sums * sizes, sizes * sizes], dim=1)

    def add(self, counts: Sequence[Tensor]) -> None:
        """Keep some draws' means and variances."""
        self._found.append(self._of(counts))

    def _of(self, counts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        parts = []
        for own, share, middle, products, drawn in zip(
            self._strata, self._shares, self._middles, self._products, counts, strict=True
        ):
            n, total, squares, cross, sizes = (drawn.double() @ products).unbind(1)
            mean = total / n
            residuals = squares - 2 * mean * cross + mean**2 * sizes
            residuals = torch.where(residuals <= ROUNDING * squares, 0.0, residuals)
            correction = own.groups / (own.groups - 1)
            parts.append((share * (mean + middle), share**2 * residuals * correction / n**2))
        means, variances = (torch.stack(column).sum(0) for column in zip(*parts, strict=True))
        return means, variances

    def interval(self, level: float) -> Interval:
        """Bootstrap-t interval of the mean."""
        device = self._strata[0].values.device
        whole = [torch.ones((1, own.groups), device=device) for own in self._strata]
        mean, variance = (float(found[0]) for found in self._of(whole))
        if not variance > 0 or isnan(mean):
            return NO_INTERVAL
        means, variances = (torch.cat(column) for column in zip(*self._found, strict=True))
        # a draw of nothing but alike values has no error to be divided by, and bounds nothing
        studentised = (means - mean) / variances.sqrt()
        low, high = _ends(torch.where(studentised.isnan(), 0.0, studentised), level)
        ends = (mean - high * sqrt(variance), mean - low * sqrt(variance))
        return Interval(*(end if isfinite(end) else nan for end in ends))


class _Quantiles:
    """Each draw's quantiles, found in the values' order."""

    def __init__(self, strata: Sequence[_Stratum], shares: Sequence[float]) -> None:
        self._shares = shares
        self._ordered, order = torch.cat([own.values for own in strata]).sort()
        starts = [0, *accumulate(own.groups for own in strata)]
        moved = [own.clusters + start for own, start in zip(strata, starts, strict=False)]
        owner = torch.cat(moved)[order]
        single = torch.equal(owner, torch.arange(len(owner), device=owner.device))
        self._owner = None if single else owner
        self._groups, self._freedom = starts[-1], starts[-1] - len(strata)
        self._found: list[list[Tensor]] = [[] for _ in shares]

    def add(self, counts: Sequence[Tensor]) -> None:
        """Keep some draws' quantiles."""
        if not self._shares:
            return
        drawn = torch.cat(list(counts), dim=1)
        drawn = drawn if self._owner is None else drawn[:, self._owner]
        for share, found in zip(self._shares, self._found, strict=True):
            place = _place(drawn, share).clamp(max=len(self._ordered) - 1)
            found.append(self._ordered[place])

    def intervals(self, level: float) -> tuple[Interval, ...]:
        """An expanded percentile interval for each share."""
        far = sqrt(self._groups / self._freedom) * t_quantile(level, self._freedom)
        wide = 2 * normal_share(far) - 1
        every = []
        for share, found in zip(self._shares, self._found, strict=True):
            low, high = _ends(torch.cat(found), wide)
            place = round(share * len(self._ordered), 6)
            every.append(
                Interval(
                    low if self._bounded(0, floor(place)) else nan,
                    high if self._bounded(ceil(place), len(self._ordered)) else nan,
                )
            )
        return tuple(every)

    def _bounded(self, start: int, stop: int) -> bool:
        """Whether there are enough of these values, by the values' order, and of their clusters."""
        count, every = stop - start, len(self._ordered)
        if count < FEWEST * (every - count) / every:
            return False
        clusters = count if self._owner is None else len(set(self._owner[start:stop].tolist()))
        return clusters >= FEWEST_CLUSTERS


def _place(counts: Float[Tensor, "replicates items"], share: float) -> Int[Tensor, " replicates"]:
    """Where each row's running total reaches a share of its whole; by blocks, then within one."""
    rows, n = counts.shape
    width = isqrt(n) + 1
    blocks = torch.nn.functional.pad(counts, (0, -n % width)).reshape(rows, -1, width)
    totals = blocks.sum(-1).cumsum(-1)
    wanted = share * totals[:, -1:]
    block = (totals < wanted).sum(-1).clamp(max=totals.shape[1] - 1)
    row = torch.arange(rows, device=counts.device)
    before = torch.nn.functional.pad(totals, (1, 0))[row, block]
    inner = blocks[row, block].cumsum(-1) + before[:, None]
    return block * width + (inner < wanted).sum(-1)


def _ends(values: Tensor, level: float) -> tuple[float, float]:
    """The values that the middle share of all lies between."""
    ordered = values.sort().values
    beyond = int((1 - level) / 2 * len(ordered))
    return float(ordered[beyond]), float(ordered[-1 - beyond])
