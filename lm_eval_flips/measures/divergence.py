"""Distances between the two models' distributions over the choices of a sample, in nats.

KL(baseline || compressed) is the one the paper reports (arXiv 2407.09141, section 3). The other
direction, Jensen-Shannon (at most ln 2) and total variation (a share, 0..1) are given beside it.

The arithmetic is float64: the log-likelihoods are logged to 17 digits, and at the distances of a
good 8-bit model (1e-5 nats) float32 would spend 1 % of the value on rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log, nan

import torch
from torch import Tensor

from lm_eval_flips.measures.ordered import Ordered
from lm_eval_flips.shapes import Float


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Distances of each sample, ``[samples]``: nats, but total_variation is a share 0..1."""

    kl: Float[Tensor, " samples"]
    reverse_kl: Float[Tensor, " samples"]
    jensen_shannon: Float[Tensor, " samples"]
    total_variation: Float[Tensor, " samples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Mean, median, 99th percentile and largest of the samples' values; nan for none.

    ``infinite`` is the number of samples whose value is infinite: then so is the mean.
    """

    mean: float
    median: float
    p99: float
    max: float
    infinite: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distances:
    """Distances between the two runs' distributions over the choices, over ``n`` samples."""

    n: int
    choice_kl: Summary
    choice_kl_reverse: Summary
    jensen_shannon: Summary
    total_variation: Summary


# The distances by the keys of their numbers, and where a divergence holds them.
DISTANCES = {
    "choice_kl": "kl",
    "choice_kl_reverse": "reverse_kl",
    "jensen_shannon": "jensen_shannon",
    "total_variation": "total_variation",
}


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    # Where p is 0 (a choice the sample does not have, or one ruled out by the model) the term is 0,
    # also if q is 0 there too and the difference is nan.
    terms = log_p.exp() * (log_p - log_q)
    # Where only q is 0 the term is infinite, also if p is too small for a float.
    terms = torch.where(log_q.isneginf(), torch.inf, terms)
    return torch.where(log_p.isneginf(), 0.0, terms).sum(-1).clamp_min(0.0)


def choice_divergence(
    *,
    baseline: Float[Tensor, "samples choices"],
    compressed: Float[Tensor, "samples choices"],
) -> Divergence:
    """Distances between the softmaxes of two runs' log-likelihoods over each sample's choices.

    Args:
        baseline: log-likelihoods (nats) as the metric compares them; -inf pads a sample that has
            fewer choices than the widest.
        compressed: the same of the compressed run, the same samples and choices.

    Returns:
        One distance a sample. KL is inf where only the second distribution rules a choice out, nan
        where a sample has no finite log-likelihood at all.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([[0.0, -2.0, -torch.inf]]), torch.zeros(1, 3)
        >>> unsure[0, 2] = -torch.inf
        >>> choice_divergence(baseline=sure, compressed=unsure).kl
        tensor([0.3278], dtype=torch.float64)
    """
    log_p = baseline.double().log_softmax(-1)
    log_q = compressed.double().log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - log(2)
    return Divergence(
        kl=_kl(log_p, log_q),
        reverse_kl=_kl(log_q, log_p),
        jensen_shannon=(_kl(log_p, log_m) + _kl(log_q, log_m)) / 2,
        total_variation=(log_p.exp() - log_q.exp()).abs().sum(-1) / 2,
    )


def summarise(values: Float[Tensor, " samples"], ordered: Ordered | None = None) -> Summary:
    """Mean, median, p99 and max; quantiles interpolate linearly as numpy's do.

    Args:
        values: one a sample.
        ordered: the same in order, where that is known; None to sort them here.

    Example:
        >>> import torch
        >>> summarise(torch.tensor([0.0, 1.0, 2.0, 102.0]))
        Summary(mean=26.25, median=1.5, p99=98.99..., max=102.0, infinite=0)
    """
    if values.numel() == 0:
        return Summary(mean=nan, median=nan, p99=nan, max=nan)
    ordered = ordered or Ordered(values)
    median, p99, largest = ordered.quantiles([0.5, 0.99, 1.0])
    return Summary(
        mean=float(values.mean()),
        median=median,
        p99=p99,
        max=largest,
        infinite=0 if isfinite(largest) else int(values.isposinf().sum()),
    )


def summarise_distances(whole: Mapping[str, tuple[Tensor, Ordered]]) -> Distances:
    """Sum up the distances of several tasks' samples together.

    Example:
        >>> same = choice_divergence(baseline=torch.zeros(2, 3), compressed=torch.zeros(2, 3))
        >>> summarise_distances(together([same, same])).n
        4
    """
    return Distances(
        n=len(whole["choice_kl"][0]), **{key: summarise(*values) for key, values in whole.items()}
    )


def together(divergences: Sequence[Divergence]) -> dict[str, tuple[Tensor, Ordered]]:
    """Each distance of several tasks' samples, as they stand and in order; nothing of no task."""
    if not divergences:
        return {}
    whole = {
        key: torch.cat([getattr(divergence, name) for divergence in divergences])
        for key, name in DISTANCES.items()
    }
    return {key: (values, Ordered(values)) for key, values in whole.items()}


def quantile(values: Float[Tensor, " samples"], share: float) -> float:
    """The value below which a share of the samples lies, interpolated linearly.

    Example:
        >>> quantile(torch.tensor([1.0, 2.0, 4.0]), 0.75)
        3.0
    """
    return Ordered(values).quantiles([share])[0]
