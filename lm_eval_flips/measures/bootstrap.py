"""Bootstrap intervals of means and quantiles: clusters are drawn again, with replacement.

Means get the bootstrap-t interval (Efron and Tibshirani 1993, section 12.5), which follows the
skewness that distances have and Student's t does not; quantiles the percentile interval (section
13.3). Strata are drawn apart. Seeded, on the device of the tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isnan, sqrt

import torch
from torch import Tensor

from lm_eval_flips.measures.significance import NO_INTERVAL, Interval
from lm_eval_flips.shapes import Float, Int

REPLICATES = 2_000
STEP = 1 << 24  # counts drawn at once

Stratum = tuple[Tensor, Tensor]  # values [items], cluster of each [items], numbered from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How to draw: how many replicates, from which seed.

    Strata are values ``[items]`` and their clusters ``[items]``, numbered from 0; clusters are
    independent, the strata are fixed.
    """

    replicates: int = REPLICATES
    seed: int = 0

    def mean_interval(self, strata: Sequence[Stratum], *, level: float = 0.95) -> Interval:
        """Bootstrap-t interval of the mean of all values.

        Returns:
            nan for a stratum of fewer than two clusters, or values that are all alike.

        Example:
            >>> values = torch.arange(1.0, 101.0).sqrt()
            >>> Bootstrap(replicates=1000).mean_interval([(values, torch.arange(100))])
            Interval(low=6.2..., high=7.1...)
        """
        total = sum(values.numel() for values, _ in strata)
        mean = variance = 0.0
        means, variances = torch.zeros(2, self.replicates, dtype=torch.float64)
        generator = self._generator(strata)
        for values, clusters in strata:
            share, own = values.numel() / total, _Sums(values, clusters)
            if own.groups < 2:
                return NO_INTERVAL
            mean += share * float(own.mean)
            variance += share**2 * float(own.variance)
            drawn = [own.of(counts) for counts in own.counts(self.replicates, generator)]
            means += share * torch.cat([m for m, _ in drawn]).cpu()
            variances += share**2 * torch.cat([v for _, v in drawn]).cpu()
        if not variance > 0 or isnan(mean):
            return NO_INTERVAL
        # a draw of one cluster alone has no error to be divided by
        studentised = ((means - mean) / variances.sqrt()).nan_to_num(nan=0.0)
        low, high = _ends(studentised, level)
        return Interval(mean - high * sqrt(variance), mean - low * sqrt(variance))

    def quantile_interval(
        self, strata: Sequence[Stratum], share: float, *, level: float = 0.95
    ) -> Interval:
        """Percentile interval of the value below which this share (0..1) of all values lies.

        Returns:
            nan for a stratum of fewer than two clusters.

        Example:
            >>> every = [(torch.arange(100.0), torch.arange(100))]
            >>> Bootstrap(replicates=1000).quantile_interval(every, 0.5)
            Interval(low=39.0, high=59.0)
        """
        sums = [_Sums(values, clusters) for values, clusters in strata]
        if not sums or any(own.groups < 2 for own in sums):
            return NO_INTERVAL
        ordered, order = torch.cat([values for values, _ in strata]).double().sort()
        starts = [0, *accumulate(own.groups for own in sums)]
        moved = [clusters + start for (_, clusters), start in zip(strata, starts, strict=False)]
        owner = torch.cat(moved)[order]
        generator, found = self._generator(strata), []
        step = max(1, STEP // max(starts[-1], len(ordered)))
        for first in range(0, self.replicates, step):
            size = min(step, self.replicates - first)
            counts = torch.cat([next(own.counts(size, generator)) for own in sums], dim=1)
            below = counts[:, owner].cumsum(1)
            place = (below < share * below[:, -1:]).sum(1)
            found.append(ordered[place.clamp(max=len(ordered) - 1)])
        return Interval(*_ends(torch.cat(found), level))

    def _generator(self, strata: Sequence[Stratum]) -> torch.Generator:
        return torch.Generator(strata[0][0].device).manual_seed(self.seed)


def _ends(values: Tensor, level: float) -> tuple[float, float]:
    """The values that the middle share of all lies between."""
    ordered = values.sort().values
    beyond = int((1 - level) / 2 * len(ordered))
    return float(ordered[beyond]), float(ordered[-1 - beyond])


class _Sums:
    """A stratum as sums and sizes of its clusters, of which any draw's mean and error are made."""

    def __init__(self, values: Float[Tensor, " items"], clusters: Int[Tensor, " items"]) -> None:
        self.groups = int(clusters.max()) + 1 if clusters.numel() else 0
        sizes = torch.zeros(self.groups, dtype=torch.float64, device=values.device)
        sizes.index_add_(0, clusters, torch.ones_like(values, dtype=torch.float64))
        sums = torch.zeros_like(sizes).index_add_(0, clusters, values.double())
        # products whose weighted sums give a draw's size, sum and squared residuals
        self._products = torch.stack([sizes, sums, sums * sums, sums * sizes, sizes * sizes], dim=1)
        self.mean, self.variance = (
            own[0] for own in self.of(torch.ones((1, self.groups), device=values.device))
        )

    def counts(self, replicates: int, generator: torch.Generator) -> Iterator[Tensor]:
        """How often each cluster is drawn, ``[replicates, clusters]``, in steps."""
        step = max(1, STEP // self.groups)
        for first in range(0, replicates, step):
            shape = (min(step, replicates - first), self.groups)
            drawn = torch.randint(
                self.groups, shape, generator=generator, device=self._products.device
            )
            counts = torch.zeros(shape, dtype=torch.float32, device=drawn.device)
            yield counts.scatter_add_(1, drawn, torch.ones_like(counts))

    def of(
        self, counts: Float[Tensor, "replicates clusters"]
    ) -> tuple[Float[Tensor, " replicates"], Float[Tensor, " replicates"]]:
        """Mean and cluster-robust variance of each draw."""
        n, total, squares, cross, sizes = (counts.double() @ self._products).unbind(1)
        mean = total / n
        residuals = squares - 2 * mean * cross + mean**2 * sizes
        correction = self.groups / (self.groups - 1) if self.groups > 1 else 1.0
        return mean, residuals.clamp(min=0) * correction / n**2
