"""Paired change of perplexity: the log-likelihood of the same text under two models.

A perplexity is exp(-sum of log-likelihoods / sum of units), the units being words, bytes or, for
cloze tasks, samples. On the same text the ratio of two perplexities depends on the paired
difference alone, whose interval (delta method of a ratio of sums) is far narrower than either
perplexity's.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, isnan, log, nan

import torch
from torch import Tensor

from lm_eval_flips.measures.clustered import standard_error
from lm_eval_flips.measures.significance import (
    NO_INTERVAL,
    Freedom,
    Interval,
    mean_interval,
)
from lm_eval_flips.shapes import Float, Int


def _exp(value: float) -> float:
    try:
        return exp(value)
    except OverflowError:
        return inf


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityChange:
    """Losses (nats per unit) of n texts under both models, and the paired change with its error."""

    n: int
    baseline_loss: float
    compressed_loss: float
    standard_error: float
    freedom: Freedom

    @property
    def loss_change(self) -> float:
        """Compressed minus baseline, nats per unit."""
        return self.compressed_loss - self.baseline_loss

    @property
    def ratio(self) -> float:
        """Compressed perplexity over the baseline's; above 1 the compressed model is worse."""
        return _exp(self.loss_change)

    @property
    def baseline_perplexity(self) -> float:
        """Perplexity of the baseline; inf where that is too large for a float."""
        return _exp(self.baseline_loss)

    @property
    def compressed_perplexity(self) -> float:
        """Perplexity of the compressed model; inf where that is too large for a float."""
        return _exp(self.compressed_loss)

    @property
    def bits_change(self) -> float:
        """Change of bits per unit (bits per byte if the units are bytes)."""
        return self.loss_change / log(2)

    def loss_interval(self, *, level: float = 0.95) -> Interval:
        """Interval of the change of loss, nats per unit; nan for a single text."""
        return mean_interval(self.loss_change, self.standard_error, self.freedom, level=level)

    def ratio_interval(self, *, level: float = 0.95) -> Interval:
        """Interval of the ratio of perplexities."""
        low, high = self.loss_interval(level=level)
        return NO_INTERVAL if isnan(low) else Interval(_exp(low), _exp(high))

    def bits_interval(self, *, level: float = 0.95) -> Interval:
        """Interval of the change of bits per unit."""
        low, high = self.loss_interval(level=level)
        return Interval(low / log(2), high / log(2))


def loss_residuals(
    *,
    baseline: Float[Tensor, " samples"],
    compressed: Float[Tensor, " samples"],
    units: Float[Tensor, " samples"],
) -> Float[Tensor, " samples"]:
    """Each text's change of log-likelihood beyond the change per unit of all texts together.

    The standard error of their mean, times n over all units, is that of the change of loss: the
    delta method for a ratio of sums.

    Example:
        >>> loss_residuals(
        ...     baseline=torch.tensor([-10.0, -20.0]),
        ...     compressed=torch.tensor([-11.0, -22.0]),
        ...     units=torch.tensor([10.0, 20.0]),
        ... )
        tensor([0., 0.], dtype=torch.float64)
    """
    change = baseline.double() - compressed.double()
    return change - change.sum() / units.sum() * units


def perplexity_change(
    *,
    baseline: Float[Tensor, " samples"],
    compressed: Float[Tensor, " samples"],
    units: Float[Tensor, " samples"],
    clusters: Int[Tensor, " samples"] | None = None,
) -> PerplexityChange:
    """Compare the log-likelihoods (nats) of the same texts under two models.

    Args:
        baseline: log-likelihood of each text under the baseline.
        compressed: the same under the compressed model.
        units: words or bytes of each text; ones for cloze samples.
        clusters: texts that are not independent share a number; None for all independent.

    Example:
        >>> import torch
        >>> change = perplexity_change(
        ...     baseline=torch.tensor([-10.0, -20.0]),
        ...     compressed=torch.tensor([-11.0, -22.0]),
        ...     units=torch.tensor([10.0, 20.0]),
        ... )
        >>> round(change.ratio, 4)
        1.1052
    """
    n, total = baseline.numel(), float(units.sum())
    if n == 0 or total <= 0:
        return PerplexityChange(
            n=n, baseline_loss=nan, compressed_loss=nan, standard_error=nan, freedom=0
        )
    places = torch.arange(n, device=baseline.device) if clusters is None else clusters
    residuals = loss_residuals(baseline=baseline, compressed=compressed, units=units)
    error, freedom = standard_error(residuals, places)
    return PerplexityChange(
        n=n,
        baseline_loss=-float(baseline.double().sum()) / total,
        compressed_loss=-float(compressed.double().sum()) / total,
        standard_error=error * n / total,
        freedom=freedom,
    )
